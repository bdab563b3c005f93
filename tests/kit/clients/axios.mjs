// A merchant's Node client: each line of stdin is a request for axios, each line of stdout its answer.
import axios from "axios";
import { createInterface } from "node:readline";

for await (const line of createInterface({ input: process.stdin })) {
  let response;
  try {
    response = await axios({ proxy: false, timeout: 15000, ...JSON.parse(line) });
  } catch (error) {
    response = error.response ?? { status: 0, headers: {}, data: String(error) };
  }
  const { status, headers, data } = response;
  process.stdout.write(JSON.stringify({ status, headers, data }) + "\n");
}

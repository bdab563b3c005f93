<?php
// One HTTP request to a shop, as PHP sees it: who asks, with which cookies. The steps are the program's arguments.
$request = json_decode(getenv('REQUEST'), true);
$_COOKIE = $request['cookies'];
$_SERVER['HTTP_COOKIE'] = implode('; ', array_map(fn($name) => "$name={$request['cookies'][$name]}", array_keys($request['cookies'])));
$_SERVER['HTTP_USER_AGENT'] = $request['agent'];
$_SERVER['REMOTE_ADDR'] = $request['address'];
set_error_handler(function ($level, $text, $file, $line) {
    if (error_reporting() & $level) {
        throw new ErrorException("$text ($file:$line)");
    }
    return false;
});
$database = new PDO('sqlite:' . __DIR__ . '/shop.db', null, null, [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC]);
$database->exec('CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, body TEXT)');

function kept($name, $default = null)
{
    $found = $GLOBALS['database']->query("SELECT body FROM kept WHERE name = '$name'")->fetchColumn();
    return $found === false ? $default : unserialize($found);
}

function keep($name, $value)
{
    $GLOBALS['database']->prepare('REPLACE INTO kept VALUES (?, ?)')->execute([$name, serialize($value)]);
}

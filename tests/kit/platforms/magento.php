<?php
// What Magento is to the module: classes by namespace, observers by the XML of an area, tables by db_schema.xml, a database with transactions.
namespace Magento\Framework\Event {
    interface ObserverInterface {}
    class Observer
    {
        public function __construct(private $given) {}
        public function getEvent() { return $this; }
        public function __call($name, $given) { return $this->given[strtolower(substr($name, 3))] ?? null; }
    }
}
namespace Magento\Framework\Component {
    class ComponentRegistrar { static function register($type, $name, $path) { $GLOBALS['registered'] = "$type $name"; } }
}
namespace Magento\Framework\Exception { class NoSuchEntityException extends \Exception {} }
namespace Magento\Framework\App {
    class ResourceConnection
    {
        public function getConnection() { return $this; }
        public function getTableName($name) { return "m2_$name"; }
        public function insertOnDuplicate($table, $row) { $this->run("REPLACE INTO $table (" . implode(', ', array_keys($row)) . ') VALUES (' . implode(', ', array_fill(0, count($row), '?')) . ')', array_values($row)); }
        public function fetchAll($sql, $given = []) { return $this->run($sql, $given)->fetchAll(); }
        public function fetchOne($sql, $given = []) { return $this->run($sql, $given)->fetchColumn(); }
        public function delete($table, $where) { $this->run("DELETE FROM $table WHERE " . implode(' AND ', array_keys($where)), array_values($where)); }
        public function update($table, $row, $where) { $this->run("UPDATE $table SET " . implode(' = ?, ', array_keys($row)) . ' = ? WHERE ' . implode(' AND ', array_keys($where)), [...array_values($row), ...array_values($where)]); }
        private function run($sql, $given) { $done = $GLOBALS['database']->prepare($sql); $done->execute($given); return $done; }
    }
}
namespace Magento\Framework\HTTP\PhpEnvironment { class RemoteAddress { public function getRemoteAddress() { return $_SERVER['REMOTE_ADDR']; } } }
namespace Magento\Checkout\Model { class Session { public function getQuoteId() { return $GLOBALS['quote']; } } }
namespace Magento\Sales\Model {
    class Order // getters for whatever it holds, as Magento's data objects; what it was loaded with is its original data
    {
        public $original = [];
        public function __construct(public $data) {}
        public function __call($name, $given) { return $this->data[strtolower(preg_replace('/(?<!^)[A-Z]/', '_$0', substr($name, 3)))] ?? null; }
        public function getId() { return $this->data['entity_id']; }
        public function getTotalDue() { return $this->data['grand_total'] - ($this->data['total_paid'] ?? 0); }
        public function getBillingAddress() { return new self(['firstname' => 'Jo', 'country_id' => 'DE']); }
        public function dataHasChangedFor($field) { return ($this->data[$field] ?? null) !== ($this->original[$field] ?? null); }
    }
}
namespace Magento\Sales\Api {
    class OrderRepositoryInterface
    {
        public function get($id)
        {
            $data = kept("order-$id") ?? throw new \Magento\Framework\Exception\NoSuchEntityException;
            $order = new \Magento\Sales\Model\Order($data);
            $order->original = $data;
            return $order;
        }
    }
}
namespace {
    require __DIR__ . '/request.php';
    const APP = __DIR__ . '/app';
    $quote = 0;
    $area = $request['area'];
    spl_autoload_register(fn($name) => str_starts_with($name, 'Shop\\Collector\\') && require APP . str_replace('\\', '/', substr($name, 14)) . '.php');
    require APP . '/registration.php';

    function xml($file) { return simplexml_load_file(APP . "/etc/$file.xml") ?: throw new Exception($file); }

    function made($class) // Magento's object manager: what a constructor asks for, by its types
    {
        $asked = (new ReflectionClass($class))->getConstructor()->getParameters();
        return new $class(...array_map(fn($one) => new ($one->getType()->getName()), $asked));
    }

    function dispatch($event, $given)
    {
        $files = array_filter(['events', "{$GLOBALS['area']}/events"], fn($file) => is_file(APP . "/etc/$file.xml"));
        foreach ($files as $file) {
            foreach (xml($file)->xpath("event[@name='$event']/observer") as $observer) {
                made((string) $observer['instance'])->execute(new Magento\Framework\Event\Observer($given));
            }
        }
    }

    function setup()
    {
        foreach (xml('db_schema')->table as $table) {
            $columns = array_map(fn($one) => "{$one['name']} NOT NULL" . (isset($one['default']) ? " DEFAULT {$one['default']}" : ''), $table->xpath('column'));
            $key = implode(', ', array_map(fn($one) => (string) $one['name'], $table->xpath("constraint[@referenceId='PRIMARY']/column")));
            $GLOBALS['database']->exec("CREATE TABLE m2_{$table['name']} (" . implode(', ', $columns) . ", PRIMARY KEY ($key))");
        }
    }

    function save($order, $fails = false) // as ResourceModel\Db\AbstractDb::save
    {
        global $database;
        $database->beginTransaction();
        keep("order-{$order->getId()}", $order->data);
        dispatch('sales_order_save_after', ['order' => $order]);
        $fails ? $database->rollBack() : $database->commit();
    }

    function step($what, $id, $more = '')
    {
        global $quote, $database;
        $quote = $id + 1000;
        $orders = new Magento\Sales\Api\OrderRepositoryInterface;
        $change = function ($data) use ($orders, $id) { $order = $orders->get($id); $order->data = $data + $order->data; save($order); };
        $now = gmdate('Y-m-d H:i:s', time() - 60);
        $new = ['entity_id' => $id, 'increment_id' => "0000$id", 'quote_id' => $quote, 'state' => 'new', 'grand_total' => (float) ($more ?: '49.9'), 'created_at' => $now,
            'order_currency_code' => 'EUR', 'customer_email' => 'jo@example.com', 'remote_ip' => '198.51.100.77'];
        switch ($what) {
            case 'setup': return setup();
            case 'checkout': return dispatch('controller_action_predispatch_checkout_index_index', []);
            case 'place': // bank transfer, cheque, cash on delivery
            case 'buy': // a card: captured at once
            case 'broken': // the database fails after the observers
                $order = new Magento\Sales\Model\Order(($what === 'buy' ? ['state' => 'processing', 'total_paid' => $new['grand_total']] : []) + $new);
                dispatch('sales_model_service_quote_submit_before', ['quote' => new Magento\Sales\Model\Order(['entity_id' => $quote]), 'order' => $order]);
                return save($order, $what === 'broken');
            case 'ship': return $change(['state' => 'processing']);
            case 'invoice': return $change(['state' => 'processing', 'total_paid' => kept("order-$id")['grand_total']]);
            case 'comment': return $change(['updated_at' => $now]);
            case 'cancel': return $change(['state' => 'canceled']);
            case 'refund': return $change(['total_refunded' => (float) $more]);
            case 'close': return $change(['state' => 'closed', 'total_refunded' => kept("order-$id")['grand_total']]);
            case 'delete': return $database->exec("DELETE FROM kept WHERE name = 'order-$id'");
            case 'cron':
                $job = xml('crontab')->group->job;
                return made((string) $job['instance'])->{(string) $job['method']}();
        }
    }
}

<?php
// What PrestaShop is to the module: hooks that are registered at its installation, objects by id, a table prefix.
require __DIR__ . '/request.php';
const _PS_VERSION_ = '8.1.0';
const _DB_PREFIX_ = 'ps_';
date_default_timezone_set('Europe/Paris'); // date_add is the shop's own time
function pSQL($text) { return str_replace("'", "''", (string) $text); }

class Db
{
    const REPLACE = 3;
    static function getInstance() { return new self; }
    function execute($sql) { return $GLOBALS['database']->exec($sql) !== false; }
    function executeS($sql) { return $GLOBALS['database']->query($sql)->fetchAll(); }
    function getValue($sql) { return $GLOBALS['database']->query("$sql LIMIT 1")->fetchColumn(); }
    function delete($table, $where) { return $this->execute('DELETE FROM ' . _DB_PREFIX_ . "$table WHERE $where"); }
    function insert($table, $row, $nulls = false, $cache = true, $type = 1)
    {
        $values = implode(', ', array_map(fn($value) => "'$value'", $row));
        return $this->execute(($type === self::REPLACE ? 'REPLACE' : 'INSERT') . ' INTO ' . _DB_PREFIX_ . "$table (" . implode(', ', array_keys($row)) . ") VALUES ($values)");
    }
}

class Module
{
    public $name, $version, $author, $tab, $displayName, $description, $context;
    function __construct() { $this->context = $GLOBALS['context']; }
    function install() { return true; }
    function registerHook($names) { keep('hooks', (array) $names); return true; }
    static function getInstanceByName($name) { return new CollectorTag; }
}
class Hook
{
    static function exec($name, $given)
    {
        $work = 'hook' . ucfirst($name);
        return in_array($name, kept('hooks'), true) ? Module::getInstanceByName('collectortag')->$work($given) : '';
    }
}
class Thing // an ObjectModel: an id that nothing is stored under has no id
{
    public $id;
    function __construct($id)
    {
        foreach (kept(get_class($this) . "-$id", static::MADE) as $name => $value) {
            $this->$name = $value;
        }
        $this->id = static::MADE || kept(get_class($this) . "-$id") ? $id : null;
    }
}
#[AllowDynamicProperties] class Order extends Thing { const MADE = []; }
#[AllowDynamicProperties] class Address extends Thing { const MADE = ['phone_mobile' => '', 'phone' => '', 'firstname' => 'Jo', 'lastname' => 'Doe', 'city' => 'Köln', 'id_state' => 0, 'postcode' => '50667', 'id_country' => 1]; }
#[AllowDynamicProperties] class Customer extends Thing { const MADE = ['email' => 'jo@example.com', 'is_guest' => 1]; }
#[AllowDynamicProperties] class Currency extends Thing { const MADE = ['iso_code' => 'EUR']; }
class Country { static function getIsoById($id) { return 'DE'; } }
class Configuration { static function get($name) { return ['PS_OS_CANCELED' => 6, 'PS_OS_REFUND' => 7, 'PS_OS_ERROR' => 8][$name] ?? false; } }
class Tools { static function getRemoteAddr() { return $_SERVER['REMOTE_ADDR']; } }
class Validate { static function isLoadedObject($thing) { return (bool) $thing->id; } }
class OrderSlip { static function getOrdersSlip($customer, $order) { return kept("slips-$order", []); } }

$context = (object) ['cart' => null, 'controller' => (object) ['php_self' => 'index']];
const STATES = ['cheque' => [1, 0], 'accepted' => [2, 1], 'shipped' => [4, 1], 'canceled' => [6, 0], 'refunded' => [7, 0], 'error' => [8, 0], 'cod' => [13, 0]];

function step($what, $id, $more = '')
{
    global $context;
    switch ($what) {
        case 'install': return (new CollectorTag)->install();
        case 'page': echo Hook::exec('displayHeader', []); return;
        case 'checkout':
            $context->cart = (object) ['id' => $id + 1000];
            $context->controller->php_self = 'order';
            Hook::exec('displayHeader', []);
            return;
        case 'order':
            keep("Order-$id", ['id_cart' => $id + 1000, 'id_customer' => 5, 'id_currency' => 1, 'id_address_invoice' => 3,
                'total_paid_tax_incl' => $more ?: '49.900000', 'date_add' => date('Y-m-d H:i:s', time() - 60)]);
            return;
        case 'slip':
            keep("slips-$id", [['total_products_tax_incl' => $more, 'total_shipping_tax_incl' => '0.000000']]);
            Hook::exec('actionOrderSlipAdd', ['order' => new Order($id)]);
            return;
        case 'cron': Module::getInstanceByName('collectortag')->tellWaiting(); return;
        case 'delete': $GLOBALS['database']->exec("DELETE FROM kept WHERE name = 'Order-$id'"); return;
        default: // as OrderHistory::changeIdOrderState
            $state = (object) ['id' => STATES[$what][0], 'paid' => STATES[$what][1]];
            Hook::exec('actionOrderStatusPostUpdate', ['newOrderStatus' => $state, 'id_order' => $id]);
    }
}

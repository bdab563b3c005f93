<?php
// What WordPress and WooCommerce are to the recipe: hooks, an order that is stored, a checkout, Action Scheduler.
require __DIR__ . '/request.php';
$hooks = [];
function add_action($name, $work, $priority = 10, $given = 1) { $GLOBALS['hooks'][$name][] = [$work, $given]; }
function add_filter($name, $work) { add_action($name, $work); }
function do_action($name, ...$given)
{
    foreach ($GLOBALS['hooks'][$name] ?? [] as [$work, $count]) {
        $work(...array_slice($given, 0, $count));
    }
}
function plugin_basename($path) { return basename($path); }
function esc_attr($text) { return htmlspecialchars($text, ENT_QUOTES); }
function current_user_can($what) { return $GLOBALS['request']['admin'] && $what === 'edit_shop_orders'; }
function wc_get_price_decimals() { return 2; }
function wc_format_decimal($number, $digits) { return number_format((float) $number, $digits, '.', ''); }
function wc_get_order($id) { return kept("order-$id", false); }
function as_schedule_single_action($at, $hook, $given) { keep('scheduled', [...kept('scheduled', []), [$hook, $given]]); }
class WC_Geolocation { static function get_ip_address() { return $_SERVER['REMOTE_ADDR']; } }
if ($request['type'] ?? '') { // the plugin WP Consent API, and what the shop's consent tool says the law is
    function wp_get_consent_type() { return $GLOBALS['request']['type']; }
    function wp_has_consent($what) { return wp_get_consent_type() === 'optout'; }
}

class WC_DateTime // as WooCommerce's: date() writes the shop's own time and calls it UTC
{
    public $at;
    function __construct($at) { $this->at = $at; }
    function getTimestamp() { return $this->at; }
    function date($format) { return gmdate($format, $this->at + 7200); }
}

class WC_Order
{
    public $id, $total, $status = 'pending', $refunded = 0, $meta = [], $stored = [], $modified, $created;
    function __construct($id, $total) { [$this->id, $this->total, $this->created, $this->modified] = [$id, $total, time() - 60, time() - 60]; }
    function update_meta_data($name, $value) { $this->meta[$name] = $value; }
    function get_meta($name) { return $this->stored[$name] ?? ''; }
    function save_meta_data() { $this->stored = $this->meta; keep("order-$this->id", $this); }
    function get_date_created() { return new WC_DateTime($this->created); }
    function get_date_modified() { return new WC_DateTime($this->modified); }
    function get_order_number() { return $this->id; }
    function get_total() { return $this->total; }
    function get_total_refunded() { return $this->refunded; }
    function __call($name, $given)
    {
        return ['get_currency' => 'EUR', 'get_billing_email' => 'jo@example.com', 'get_billing_country' => 'DE', 'get_customer_id' => 0][$name] ?? '';
    }
    /** As WC_Order::save(): stored first, with the new date; then the hooks, with an object that has the date of before. */
    function update_status($status)
    {
        $this->status = $status;
        $stored = clone $this;
        $stored->modified = time();
        $stored->save_meta_data();
        do_action("woocommerce_order_status_$status", $this->id, $this);
    }
}

function step($what, $id, $more = '')
{
    $order = wc_get_order($id) ?: new WC_Order($id, $more ?: '49.90');
    switch ($what) {
        case 'page': return do_action('wp_head');
        case 'meta': echo json_encode(array_diff_key($order->stored, ['_collector' => 0])); return;
        case 'classic': do_action('woocommerce_checkout_create_order', $order, []); return $order->save_meta_data();
        case 'block': do_action('woocommerce_store_api_checkout_update_order_from_request', $order, []); return $order->save_meta_data();
        case 'made': return $order->save_meta_data(); // by an admin, for a customer
        case 'pay': do_action('woocommerce_before_pay_action', $order); return;
        case 'payment_complete': do_action('woocommerce_payment_complete', $id); return;
        case 'refund': $order->refunded = (float) $more; $order->save_meta_data(); do_action('woocommerce_order_partially_refunded', $id, 7); return;
        case 'scheduled':
            $all = kept('scheduled', []);
            keep('scheduled', []);
            return array_map(fn($one) => do_action($one[0], ...$one[1]), $all);
        default: return $order->update_status($what);
    }
}

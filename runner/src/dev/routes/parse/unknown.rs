//! What a routes file says and the local gateway does not imitate: in words that tell what happens instead.

use crate::dev::routes::yaml::Report;

/// Keys of APISIX that decide which requests a route takes: without them it takes more.
const MATCHING: [(&str, &str); 7] = [
    ("host", "the route takes requests for every host"),
    ("hosts", "the route takes requests for every host"),
    ("remote_addr", "the route takes requests from every address"),
    (
        "remote_addrs",
        "the route takes requests from every address",
    ),
    (
        "vars",
        "the route takes requests whatever the variables are",
    ),
    (
        "filter_func",
        "the route takes requests without it being asked",
    ),
    ("script", "it does not run"),
];
/// Other keys of APISIX, of all places.
const KNOWN: [&str; 33] = [
    "timeout",
    "upstream_id",
    "upstreams",
    "consumers",
    "consumer_groups",
    "credentials",
    "global_rules",
    "plugin_metadata",
    "plugins",
    "protos",
    "secrets",
    "ssls",
    "stream_routes",
    "script_id",
    "checks",
    "retries",
    "retry_timeout",
    "hash_on",
    "key",
    "keepalive_pool",
    "pass_host",
    "upstream_host",
    "scheme",
    "discovery_type",
    "discovery_args",
    "service_name",
    "tls",
    "type",
    "desc",
    "labels",
    "id",
    "name",
    "_meta",
];
/// Keys that are imitated: for the nearest name.
const IMITATED: [&str; 17] = [
    "routes",
    "services",
    "plugin_configs",
    "uri",
    "uris",
    "methods",
    "priority",
    "status",
    "service_id",
    "plugin_config_id",
    "upstream",
    "nodes",
    "conf",
    "value",
    "allow_degradation",
    "weight",
    "port",
];
const HOOKS: [&str; 3] = [
    "ext-plugin-pre-req",
    "ext-plugin-post-req",
    "ext-plugin-post-resp",
];

/// Tells of a key that changes nothing here.
pub(super) fn not_imitated(key: &str, line: usize, report: &mut Report) {
    let instead = MATCHING.iter().find(|(known, _)| *known == key);
    let message = match instead {
        Some((_, instead)) => format!("`{key}` is not imitated by the local gateway: {instead}"),
        None if KNOWN.contains(&key) => format!("`{key}` is not imitated by the local gateway"),
        None => {
            let known = KNOWN.iter().chain(&IMITATED).copied();
            let known = known.chain(MATCHING.iter().map(|(known, _)| *known));
            let hint = nearest(key, known);
            format!("`{key}` is no key that the local gateway knows{hint}")
        }
    };
    report.warning(line, message);
}

/// Tells of a plugin that is not run.
pub(super) fn not_run(plugin: &str, line: usize, report: &mut Report) {
    let hint = if plugin.starts_with("ext-") {
        nearest(plugin, HOOKS.into_iter())
    } else {
        String::new()
    };
    let message = format!(
        "the plugin `{plugin}` is the gateway's own: the local gateway does not run it{hint}"
    );
    report.warning(line, message);
}

/// `: is it …?`, if there is a name that is much like it.
fn nearest(key: &str, known: impl Iterator<Item = &'static str>) -> String {
    let likeness = |known: &&str| strsim::jaro_winkler(key, known);
    let best = known.max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    match best.filter(|best| likeness(best) > 0.85) {
        Some(best) => format!(": is it `{best}`?"),
        None => String::new(),
    }
}

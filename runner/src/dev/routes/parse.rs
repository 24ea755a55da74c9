//! From the text of a routes file to routes: APISIX's keys, their rules, and what of them is not imitated.

mod unknown;
mod upstream;

use saphyr::MarkedYaml;

use self::unknown::not_imitated;
use self::upstream::read_upstream;
use super::yaml::{Field, Report, line, load};
use super::{Hook, Route};
use crate::dev::inspect::Inspector;

/// Keys of a route or service that change nothing here.
const WITHOUT_EFFECT: [&str; 5] = [
    "desc",
    "labels",
    "create_time",
    "update_time",
    "enable_websocket",
];
const MAX_NAME: usize = 128;

/// What a file says.
pub(super) struct Parsed {
    pub(super) routes: Vec<Route>,
    pub(super) faults: Vec<(usize, String)>,
    pub(super) warnings: Vec<(usize, String)>,
}

/// Hooks and nodes as written on a route, a service or a plugin config, before the key is known.
#[derive(Debug, Clone, Default)]
struct Settings {
    id: String,
    pre_req: Option<RawHook>,
    post_req: Option<RawHook>,
    post_resp: Option<RawHook>,
    nodes: Option<Vec<(String, u32)>>,
}

#[derive(Debug, Clone, Default)]
struct RawHook {
    conf: Option<Vec<(String, String)>>,
    allow_degradation: bool,
}

/// A route before services and plugin configs are merged into it.
#[derive(Default)]
struct RawRoute {
    line: usize,
    settings: Settings,
    name: Option<String>,
    uris: Vec<String>,
    methods: Vec<String>,
    priority: i64,
    enabled: bool,
    service: Option<(usize, String)>,
    plugin_config: Option<(usize, String)>,
}

/// Reads a file's text. `version` becomes the last part of the hooks' keys.
pub(super) fn parse(text: &str, version: u64) -> Parsed {
    let mut report = Report::default();
    if text
        .lines()
        .map(str::trim_end)
        .rfind(|line| !line.is_empty())
        != Some("#END")
    {
        report.fault(
            text.lines().count().max(1),
            "the last line must be `#END`: the gateway reads no file without it",
        );
    }
    let routes =
        load(text, &mut report).map(|document| read_document(&document, version, &mut report));
    report.faults.sort_by_key(|(line, _)| *line);
    Parsed {
        routes: routes.unwrap_or_default(),
        faults: report.faults,
        warnings: report.warnings,
    }
}

fn read_document(document: &MarkedYaml<'_>, version: u64, report: &mut Report) -> Vec<Route> {
    let (mut raw, mut services, mut plugin_configs) = (Vec::new(), Vec::new(), Vec::new());
    let mut has_routes = false;
    for field in report.fields(document, "the file") {
        match field.name.as_str() {
            "routes" => {
                has_routes = true;
                for (index, node) in report.items(field.value, "`routes`").iter().enumerate() {
                    raw.push(read_route(node, index, report));
                }
            }
            "services" => read_settings_list(&field, "`services`", &mut services, report),
            "plugin_configs" => {
                read_settings_list(&field, "`plugin_configs`", &mut plugin_configs, report)
            }
            other => not_imitated(other, field.line, report),
        }
    }
    if !has_routes {
        report.fault(line(document), "there is no `routes:`");
    }
    refuse_repeated_ids(&raw, report);
    let enabled = raw.into_iter().filter(|route| route.enabled);
    enabled
        .filter_map(|route| finish(route, &services, &plugin_configs, version, report))
        .collect()
}

fn read_settings_list(field: &Field<'_>, what: &str, out: &mut Vec<Settings>, report: &mut Report) {
    for node in report.items(field.value, what) {
        let mut settings = Settings::default();
        for field in report.fields(node, &format!("an item of {what}")) {
            if field.name == "id" {
                settings.id = report.id(field.value, "`id`").unwrap_or_default();
            } else if !read_setting(&field, &mut settings, report) && field.name != "name" {
                not_imitated(&field.name, field.line, report);
            }
        }
        if settings.id.is_empty() {
            report.fault(line(node), format!("an item of {what} needs an `id`"));
        }
        out.push(settings);
    }
}

fn read_route(node: &MarkedYaml<'_>, index: usize, report: &mut Report) -> RawRoute {
    let mut route = RawRoute {
        line: line(node),
        enabled: true,
        ..RawRoute::default()
    };
    route.settings.id = index.to_string();
    for field in report.fields(node, "a route") {
        let value = field.value;
        match field.name.as_str() {
            "id" => route.settings.id = report.id(value, "`id`").unwrap_or_default(),
            "name" => route.name = report.text(value, "`name`"),
            "uri" => route.uris.extend(report.text(value, "`uri`")),
            "uris" => route.uris.extend(report.texts(value, "`uris`")),
            "methods" => route.methods = report.texts(value, "`methods`"),
            "priority" => route.priority = report.integer(value, "`priority`").unwrap_or_default(),
            "status" => route.enabled = report.integer(value, "`status`") != Some(0),
            "service_id" => {
                route.service = report.id(value, "`service_id`").map(|id| (field.line, id))
            }
            "plugin_config_id" => {
                route.plugin_config = report
                    .id(value, "`plugin_config_id`")
                    .map(|id| (field.line, id));
            }
            name => {
                if !read_setting(&field, &mut route.settings, report) {
                    not_imitated(name, field.line, report);
                }
            }
        }
    }
    if route.uris.is_empty() {
        report.fault(route.line, "a route needs `uri` or `uris`");
    }
    for uri in route.uris.iter().filter(|uri| Inspector::is_meant(uri)) {
        let message =
            format!("`{uri}` is never reached: the local gateway answers it with its own page");
        report.warning(route.line, message);
    }
    for uri in route.uris.iter().filter(|uri| !uri.starts_with('/')) {
        report.fault(route.line, format!("the uri `{uri}` must start with `/`"));
    }
    route
}

/// The keys that routes, services and plugin configs share. False: not one of them.
fn read_setting(field: &Field<'_>, settings: &mut Settings, report: &mut Report) -> bool {
    match field.name.as_str() {
        "plugins" => read_plugins(field.value, settings, report),
        "upstream" => settings.nodes = Some(read_upstream(field.value, report)),
        other => return WITHOUT_EFFECT.contains(&other),
    }
    true
}

fn read_plugins(node: &MarkedYaml<'_>, settings: &mut Settings, report: &mut Report) {
    for field in report.fields(node, "`plugins`") {
        let place = match field.name.as_str() {
            "ext-plugin-pre-req" => &mut settings.pre_req,
            "ext-plugin-post-req" => &mut settings.post_req,
            "ext-plugin-post-resp" => &mut settings.post_resp,
            other => {
                unknown::not_run(other, field.line, report);
                continue;
            }
        };
        *place = Some(read_hook(&field, report));
    }
}

fn read_hook(hook: &Field<'_>, report: &mut Report) -> RawHook {
    let mut read = RawHook::default();
    for field in report.fields(hook.value, &format!("`{}`", hook.name)) {
        match field.name.as_str() {
            "conf" => read.conf = Some(read_conf(field.value, report)),
            "allow_degradation" => {
                read.allow_degradation = report
                    .boolean(field.value, "`allow_degradation`")
                    .unwrap_or_default();
            }
            other => not_imitated(other, field.line, report),
        }
    }
    read
}

fn read_conf(node: &MarkedYaml<'_>, report: &mut Report) -> Vec<(String, String)> {
    let items = report.items(node, "`conf`");
    if items.is_empty() && node.data.is_sequence() {
        report.fault(line(node), "`conf` must name at least one plugin");
    }
    items
        .iter()
        .filter_map(|item| read_conf_entry(item, report))
        .collect()
}

fn read_conf_entry(node: &MarkedYaml<'_>, report: &mut Report) -> Option<(String, String)> {
    let (mut name, mut value) = (None, None);
    let (mut has_name, mut has_value) = (false, false);
    for field in report.fields(node, "an item of `conf`") {
        match field.name.as_str() {
            "name" => {
                has_name = true;
                name = report.text(field.value, "`name`");
            }
            "value" => {
                has_value = true;
                value = report.text(field.value, "`value`");
            }
            other => not_imitated(other, field.line, report),
        }
    }
    if !has_name || !has_value {
        report.fault(line(node), "an item of `conf` needs `name` and `value`");
    }
    let name = name?;
    if name.is_empty() || name.chars().count() > MAX_NAME {
        report.fault(
            line(node),
            format!("a plugin's `name` has 1 to {MAX_NAME} characters"),
        );
    }
    Some((name, value?))
}

fn refuse_repeated_ids(routes: &[RawRoute], report: &mut Report) {
    for (index, route) in routes.iter().enumerate() {
        if routes[..index]
            .iter()
            .any(|earlier| earlier.settings.id == route.settings.id)
        {
            report.fault(
                route.line,
                format!("the id `{}` is used by an earlier route", route.settings.id),
            );
        }
    }
}

/// Merges plugin config and service into a route, the route's own settings first, and gives the hooks their keys.
fn finish(
    route: RawRoute,
    services: &[Settings],
    plugin_configs: &[Settings],
    version: u64,
    report: &mut Report,
) -> Option<Route> {
    let mut find = |list: &[Settings], wanted: &Option<(usize, String)>, what: &str| {
        let (line, id) = wanted.as_ref()?;
        let found = list.iter().find(|settings| settings.id == *id).cloned();
        if found.is_none() {
            report.fault(*line, format!("there is no {what} `{id}`"));
        }
        found
    };
    let service = find(services, &route.service, "service");
    let plugin_config = find(plugin_configs, &route.plugin_config, "plugin config");
    let own = route.settings;
    let (mut kind, mut id, mut versions) = ("route", own.id.clone(), version.to_string());
    if let Some(service) = &service {
        kind = "route&service";
        id = format!("{id}&{}", service.id);
        versions = format!("{versions}&{version}");
    }
    if plugin_config.is_some() {
        versions = format!("{versions}#{version}");
    }
    let layers = [Some(&own), plugin_config.as_ref(), service.as_ref()];
    let hook = |plugin: &str, pick: fn(&Settings) -> Option<&RawHook>| {
        let raw = layers
            .iter()
            .flatten()
            .find_map(|settings| pick(settings))?;
        Some(Hook {
            key: format!("{kind}#{id}#{plugin}#{versions}"),
            conf: raw.conf.clone(),
            allow_degradation: raw.allow_degradation,
        })
    };
    let nodes = layers
        .iter()
        .flatten()
        .find_map(|settings| settings.nodes.clone());
    Some(Route {
        pre_req: hook("ext-plugin-pre-req", |settings| settings.pre_req.as_ref()),
        post_req: hook("ext-plugin-post-req", |settings| settings.post_req.as_ref()),
        post_resp: hook("ext-plugin-post-resp", |settings| {
            settings.post_resp.as_ref()
        }),
        nodes: nodes.unwrap_or_default(),
        id: own.id.clone(),
        name: route.name,
        service: service.map(|service| service.id),
        uris: route.uris,
        methods: route.methods,
        priority: route.priority,
        picks: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_told_with_their_lines() {
        let text = "routes:\n  - id: 1\n    plugins:\n      ext-plugin-pre-req: {conf: [{name: a, value: 5}]}\n  - {id: 1, uri: x}\n";
        let faults = parse(text, 0).faults;
        let lines: Vec<usize> = faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4, 5, 5, 5], "{faults:?}");
        assert!(faults[0].1.contains("`uri` or `uris`"));
        assert!(faults[1].1.contains("put it in quotes"));
    }

    #[test]
    fn what_is_not_imitated_is_a_warning() {
        let text = "routes:\n  - uri: /a\n    hosts: [a.test]\n    plugins:\n      key-auth: {}\nconsumers: []\n#END\n";
        let parsed = parse(text, 0);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        let lines: Vec<usize> = parsed.warnings.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 5, 6]);
        assert!(
            parsed.warnings[0]
                .1
                .contains("takes requests for every host")
        );
    }

    #[test]
    fn a_key_that_nobody_knows_is_named_with_the_nearest_one() {
        let text = "routes:\n  - {uri: /a, methds: [GET], plugins: {ext-plugin-pre-rq: {}}}\nupstrems: []\n#END\n";
        let warnings = parse(text, 0).warnings;
        let has = |part: &str| warnings.iter().any(|(_, message)| message.contains(part));
        assert!(
            has("`methds` is no key that the local gateway knows: is it `methods`?"),
            "{warnings:?}"
        );
        assert!(has("is it `upstreams`?"), "{warnings:?}");
        assert!(has("is it `ext-plugin-pre-req`?"), "{warnings:?}");
    }

    #[test]
    fn a_route_to_the_page_is_told_that_it_is_never_reached() {
        let text = "routes:\n  - {uri: /__plugin_runner/x}\n  - {uri: /__plugin_runner_2}\n#END\n";
        let warnings = parse(text, 0).warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].1.contains("is never reached"));
    }

    #[test]
    fn keys_have_the_gateways_form() {
        let text = "routes:\n  - {id: r, uri: /a, service_id: s, plugins: {ext-plugin-pre-req: {}}}\n  - {uri: /b, plugin_config_id: p}\n\
                    services:\n  - {id: s}\nplugin_configs:\n  - {id: p, plugins: {ext-plugin-post-resp: {}}}\n#END\n";
        let parsed = parse(text, 7);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        let key = |hook: &Option<Hook>| hook.as_ref().unwrap().key.clone();
        assert_eq!(
            key(&parsed.routes[0].pre_req),
            "route&service#r&s#ext-plugin-pre-req#7&7"
        );
        assert_eq!(
            key(&parsed.routes[1].post_resp),
            "route#1#ext-plugin-post-resp#7#7"
        );
    }

    #[test]
    fn nodes_may_be_a_map_or_a_list() {
        let text = "routes:\n  - {uri: /a, upstream: {type: roundrobin, nodes: {\"127.0.0.1:1980\": 2}}}\n\
                    \x20 - {uri: /b, upstream: {nodes: [{host: ::1, port: 81, weight: 1}]}}\n#END\n";
        let parsed = parse(text, 0);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        assert_eq!(parsed.routes[0].nodes, [("127.0.0.1:1980".to_owned(), 2)]);
        assert_eq!(parsed.routes[1].nodes, [("[::1]:81".to_owned(), 1)]);
    }
}

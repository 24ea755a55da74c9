//! What KONG.md puts in the place of Kong's terms is there, and each row's test is one.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;

use plugin_api::{Next, Plugin, RawConfig, Request, Result, plugin, testing};

const TABLES: &str = include_str!("../KONG.md");

/// The functions that Kong's external plugin servers can call, in the order of its protocol file.
const KIT: &str = "kong.client.authenticate kong.client.get_consumer kong.client.get_credential \
    kong.client.get_forwarded_ip kong.client.get_forwarded_port kong.client.get_ip kong.client.get_port \
    kong.client.get_protocol kong.client.load_consumer kong.ctx.shared.get kong.ctx.shared.set kong.ip.is_trusted \
    kong.log.alert kong.log.crit kong.log.debug kong.log.err kong.log.info kong.log.notice kong.log.serialize \
    kong.log.set_serialize_value kong.log.warn kong.nginx.get_ctx kong.nginx.get_subsystem kong.nginx.get_tls \
    kong.nginx.get_tls1_version_str kong.nginx.get_var kong.nginx.req_start_time kong.nginx.set_ctx kong.node.get_id \
    kong.node.get_memory_stats kong.request.get_forwarded_host kong.request.get_forwarded_port \
    kong.request.get_forwarded_scheme kong.request.get_header kong.request.get_headers kong.request.get_host \
    kong.request.get_http_version kong.request.get_method kong.request.get_path kong.request.get_path_with_query \
    kong.request.get_port kong.request.get_query kong.request.get_query_arg kong.request.get_raw_body \
    kong.request.get_raw_query kong.request.get_scheme kong.request.get_uri_captures kong.response.add_header \
    kong.response.clear_header kong.response.exit kong.response.get_header kong.response.get_headers \
    kong.response.get_source kong.response.get_status kong.response.set_header kong.response.set_headers \
    kong.response.set_status kong.router.get_route kong.router.get_service kong.service.request.add_header \
    kong.service.request.clear_header kong.service.request.set_header kong.service.request.set_headers \
    kong.service.request.set_method kong.service.request.set_path kong.service.request.set_query \
    kong.service.request.set_raw_body kong.service.request.set_raw_query kong.service.request.set_scheme \
    kong.service.response.get_header kong.service.response.get_headers kong.service.response.get_raw_body \
    kong.service.response.get_status kong.service.set_target kong.service.set_upstream";

/// Terms of the plugin development guide beside the kit.
const GUIDE: &str = "handler.lua schema.lua PRIORITY VERSION daos.lua init_worker configure certificate rewrite access \
    response header_filter body_filter log preread custom_validator required default one_of typedefs kong.ctx.plugin \
    kong.db kong.cache kong.vault kong.table runloop.X.before runloop.X.after ngx.timer";

/// The rows of all tables: their cells.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = TABLES.lines().filter(|line| line.starts_with("| "));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn every_term_is_looked_up_and_found() {
    let terms: Vec<&str> = rows().map(|row| row[0]).collect();
    for term in KIT
        .split(' ')
        .chain(GUIDE.split(' '))
        .filter(|term| !term.is_empty())
    {
        let quoted = format!("`{term}`");
        assert!(terms.iter().any(|cell| cell.contains(&quoted)), "{term}");
    }
}

#[test]
fn every_row_has_a_test_or_says_that_there_is_none() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = 0;
    for row in rows().filter(|row| row[3] != "test") {
        assert_eq!(row.len(), 4, "{row:?}");
        if row[3] == "–" {
            continue;
        }
        let (names, file) = row[3].split_once(" (").unwrap_or((row[3], "moving.rs)"));
        let file = file.trim_end_matches(')');
        let file = match file.strip_prefix("tests/") {
            Some(file) => here.join("../tests/tests").join(file),
            None => here.join("tests").join(file),
        };
        let source = std::fs::read_to_string(&file).unwrap();
        for name in names.split(", ") {
            let function = format!("fn {}()", name.trim_matches('`'));
            assert!(source.contains(&function), "{}: {name}", file.display());
            tests += 1;
        }
    }
    assert!(tests > 50, "{tests}");
}

struct Kit;

#[plugin(name = "kit")]
impl Plugin for Kit {
    type Config = RawConfig;

    fn init_worker(_: &plugin_api::InitContext) -> Result<Self> {
        Ok(Self)
    }

    fn rewrite(&self, _: &RawConfig, request: &mut Request<'_>) -> Result<Next> {
        request.set_consumer("anna", Some(b"anna#1"))?;
        request.add_group("gold")?;
        request.log_field("plan", "gold")?;
        Ok(Next::CONTINUE)
    }

    fn access(&self, _: &RawConfig, request: &mut Request<'_>) -> Result<Next> {
        let mut seen = format!(
            "{} {} {} {}",
            request.consumer().unwrap(),
            request.credential().unwrap(),
            request.groups().next().unwrap(),
            request.host().unwrap()
        );
        for name in VARIABLES {
            let value = request.variable(name)?.unwrap();
            seen += &format!(" {value}");
        }
        for value in [
            request.scheme()?,
            request.route_id()?,
            request.service_id()?,
        ] {
            seen += &format!(" {}", value.unwrap());
        }
        Next::respond(200).text(seen).into()
    }
}

const VARIABLES: [&str; 9] = [
    "realip_remote_addr",
    "remote_port",
    "server_port",
    "server_protocol",
    "request_uri",
    "args",
    "ssl_protocol",
    "hostname",
    "route_name",
];

fn outcome() -> testing::Outcome {
    let known = VARIABLES
        .into_iter()
        .chain(["scheme", "route_id", "service_id"]);
    let request = testing::Request::get("/").header("host", "a.test");
    let request = known.fold(request, |request, name| request.variable(name, name));
    testing::conf::<Kit>("").unwrap().request(request)
}

fn said() -> String {
    outcome().answer().unwrap().body().to_string()
}

#[test]
fn a_successor_plugin_sees_who_was_authenticated() {
    assert!(said().starts_with("anna anna#1 gold "), "{}", said());
}

#[test]
fn what_the_gateway_knows_is_a_variable() {
    let all = format!("{} scheme route_id service_id", VARIABLES.join(" "));
    assert!(said().ends_with(&all), "{}", said());
}

#[test]
fn a_request_is_read_as_with_kongs_kit() {
    assert!(said().contains(" a.test "), "{}", said());
}

#[test]
fn a_field_of_the_calls_line_is_set() {
    assert_eq!(outcome().log_field("plan").unwrap(), "gold");
}

//! Lets clients in or keeps them out, by their address. Behaves as Kong's plugin of that name.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use plugin_api::serde_json::json;
use plugin_api::{ConfContext, Error, Next, Plugin, Request, Result, bail, config, plugin};

/// `{"deny": ["10.0.0.0/8"], "status": 403, "message": "…"}`; at least one of `allow` and `deny`. An address in both
/// is kept out.
#[config]
pub struct Config {
    /// Only these addresses and networks are let in.
    #[serde(default)]
    allow: Vec<String>,
    /// These addresses and networks are kept out.
    #[serde(default)]
    deny: Vec<String>,
    /// Status of the answer to whom is kept out.
    #[serde(default = "forbidden")]
    #[schemars(range(min = 200, max = 599))]
    status: u16,
    /// Message in the answer.
    #[serde(default = "not_allowed")]
    message: String,
}

fn forbidden() -> u16 {
    403
}

fn not_allowed() -> String {
    "Your IP address is not allowed".to_owned()
}

/// The configuration, with its networks read.
pub struct Prepared {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    status: u16,
    body: String,
}

/// The plugin.
#[derive(Default)]
pub struct IpRestriction;

#[plugin(priority = 990)]
impl Plugin for IpRestriction {
    type Config = Config;
    type Prepared = Prepared;

    fn validate(config: &Config) -> Result<()> {
        if config.allow.is_empty() && config.deny.is_empty() {
            bail!("needs at least one address in `allow` or `deny`");
        }
        match config.status {
            200..=599 => Ok(()),
            status => bail!("`status`: {status} is not 200 to 599"),
        }
    }

    fn configure(&self, config: Config, _: &ConfContext) -> Result<Prepared> {
        Ok(Prepared {
            allow: networks("allow", &config.allow)?,
            deny: networks("deny", &config.deny)?,
            status: config.status,
            body: json!({ "message": config.message }).to_string(),
        })
    }

    fn access(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        let Some(client) = request
            .client_address()
            .map(|address| address.to_canonical())
        else {
            let message =
                "Cannot identify the client IP address, unix domain sockets are not supported.";
            return Next::respond(403)
                .json(&json!({ "message": message }))
                .map(Next::from);
        };
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
        let kept_out = is_in(&prepared.deny);
        if kept_out || !(prepared.allow.is_empty() || is_in(&prepared.allow)) {
            let answer = Next::respond(prepared.status).header("Content-Type", "application/json");
            return answer.body(prepared.body.as_str()).into();
        }
        Ok(Next::CONTINUE)
    }
}

fn networks(key: &str, texts: &[String]) -> Result<Vec<IpNet>> {
    let read = texts.iter().enumerate().map(|(index, text)| {
        let network = text.parse::<IpNet>().ok();
        let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.map(canonical).ok_or_else(|| {
            Error::new(format_args!(
                "`{key}[{index}]`: `{text}` is no IP address and no network such as 10.0.0.0/8"
            ))
        })
    });
    read.collect()
}

/// `::ffff:10.0.0.0/104` is 10.0.0.0/8: clients of a dual-stack socket come under such addresses.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped = Ipv6Addr::to_ipv4_mapped(&v6.addr()).filter(|_| v6.prefix_len() >= 96);
    mapped
        .and_then(|v4| Ipv4Net::new(v4, v6.prefix_len() - 96).ok())
        .map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use plugin_api::testing;

    use super::*;

    #[track_caller]
    fn check(conf: &str, client: &str, let_in: bool) {
        let plugin = testing::conf::<IpRestriction>(conf).unwrap();
        let client: IpAddr = client.parse().unwrap();
        let outcome = plugin.access(testing::Request::get("/").client_address(client));
        assert_eq!(outcome.continues(), let_in, "{conf} {client} {outcome:?}");
    }

    #[test]
    fn addresses_and_networks_of_both_families() {
        for (conf, client, let_in) in [
            (r#"{"deny": ["127.0.0.1"]}"#, "127.0.0.1", false),
            (r#"{"deny": ["127.0.0.1"]}"#, "127.0.0.2", true),
            (r#"{"deny": ["127.0.0.0/24"]}"#, "127.0.0.255", false),
            (r#"{"deny": ["127.0.0.0/24"]}"#, "127.0.1.0", true),
            (r#"{"allow": ["127.0.0.0/24"]}"#, "127.0.1.0", false),
            (r#"{"allow": ["10.1.2.3/8"]}"#, "10.200.0.1", true),
            (r#"{"allow": ["0.0.0.0/0"]}"#, "::1", false),
            (r#"{"allow": ["::/0"]}"#, "2001:db8::1", true),
            (r#"{"deny": ["2001:db8::/32"]}"#, "2001:db8:ffff::1", false),
            (r#"{"deny": ["2001:db8::/32"]}"#, "2001:db9::", true),
            (
                r#"{"allow": ["1.2.3.4", "::1"], "deny": ["::1"]}"#,
                "::1",
                false,
            ),
            (
                r#"{"allow": ["1.2.3.4"], "deny": ["::1"]}"#,
                "1.2.3.4",
                true,
            ),
            (r#"{"deny": ["1.2.3.4"]}"#, "::ffff:1.2.3.4", false),
            (r#"{"deny": ["::ffff:1.2.3.0/120"]}"#, "1.2.3.9", false),
        ] {
            check(conf, client, let_in);
        }
    }

    #[test]
    fn status_and_message_come_from_the_conf() {
        let conf = r#"{"deny": ["::/0", "0.0.0.0/0"], "status": 418, "message": "no"}"#;
        let plugin = testing::conf::<IpRestriction>(conf).unwrap();
        let outcome = plugin.access(testing::Request::get("/"));
        let answer = outcome.answer().unwrap();
        assert_eq!(
            (answer.status(), answer.body().as_bytes()),
            (418, &br#"{"message":"no"}"#[..])
        );
    }

    #[test]
    fn a_conf_that_restricts_nothing_or_cannot_be_read_is_refused() {
        for (conf, reason) in [
            ("{}", "needs at least one address in `allow` or `deny`"),
            (
                r#"{"deny": ["::1", "10.0.0.0/33"]}"#,
                "`deny[1]`: `10.0.0.0/33` is no IP address",
            ),
            (
                r#"{"allow": ["host"]}"#,
                "`allow[0]`: `host` is no IP address",
            ),
            (
                r#"{"allow": ["::1"], "status": 99}"#,
                "`status`: 99 is not 200 to 599",
            ),
        ] {
            let refused = testing::conf::<IpRestriction>(conf)
                .unwrap_err()
                .to_string();
            assert!(refused.starts_with(reason), "{refused}");
        }
    }
}

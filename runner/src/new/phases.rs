//! The code of each phase: what it does in a new plugin, and the test of it.

use clap::ValueEnum;

/// A phase that a new plugin may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Phase {
    /// On a request, before any plugin's `access`
    Rewrite,
    /// On a request, after all plugins' `rewrite`: the usual place
    Access,
    /// On a response: status and headers
    HeaderFilter,
    /// On a response, with its body
    BodyFilter,
    /// After the reply, off the client's path
    Log,
}

/// What a phase adds to the crate.
pub(super) struct Code {
    /// The method.
    pub(super) method: &'static str,
    /// The test of it.
    pub(super) test: &'static str,
    /// Names of plugin-api that the method needs, in the order of a `use`.
    pub(super) uses: &'static [&'static str],
    /// Names of the test kit.
    pub(super) test_uses: &'static str,
    /// What it does, as a half sentence.
    pub(super) about: &'static str,
}

impl Phase {
    /// Whether it is one of a request.
    pub(super) fn on_request(self) -> bool {
        matches!(self, Self::Rewrite | Self::Access)
    }

    pub(super) fn code(self) -> Code {
        match self {
            Self::Rewrite => REWRITE,
            Self::Access => ACCESS,
            Self::HeaderFilter => HEADER_FILTER,
            Self::BodyFilter => BODY_FILTER,
            Self::Log => LOG,
        }
    }
}

const REWRITE: Code = Code {
    method: r#"
    /// On a request, before any plugin's `access`: for what the others are to see changed.
    fn rewrite(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        request.set_header("x-greeting", &config.greeting)?;
        Ok(Next::CONTINUE)
    }
"#,
    test: r#"
    #[test]
    fn the_upstream_gets_the_greeting() {
        let plugin = testing::conf::<@TYPE@>(CONF).unwrap();
        let outcome = plugin.rewrite(Request::get("/"));
        assert_eq!(outcome.header("x-greeting").unwrap(), "hi");
    }
"#,
    uses: &["Next", "Request", "Result"],
    test_uses: "Request",
    about: "tells the upstream in a header",
};

const ACCESS: Code = Code {
    method: r#"
    /// On a request, after all plugins' `rewrite`: the usual place. An answer from here ends the chain.
    fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        if request.path() == "/hello" {
            let text = format!("{}\n", config.greeting);
            return Next::respond(200).text(text).into();
        }
        request.set_response_header("x-greeting", &config.greeting)?;
        Ok(Next::CONTINUE)
    }
"#,
    test: r#"
    #[test]
    fn hello_is_answered() {
        let plugin = testing::conf::<@TYPE@>(CONF).unwrap();
        let outcome = plugin.access(Request::get("/hello"));
        assert_eq!(outcome.answer().unwrap().body(), "hi\n");
    }

    #[test]
    fn every_other_path_goes_on_to_the_upstream() {
        let plugin = testing::conf::<@TYPE@>(CONF).unwrap();
        assert!(plugin.access(Request::get("/other")).continues());
    }
"#,
    uses: &["Next", "Request", "Result"],
    test_uses: "Request",
    about: "answers `/hello` itself and tells every other client in a header",
};

const HEADER_FILTER: Code = Code {
    method: r#"
    /// On a response, before any plugin's `body_filter`: for status and headers.
    fn header_filter(&self, config: &Config, response: &mut Response<'_>) -> Result<Next> {
        response.set_header("x-greeting", &config.greeting)?;
        Ok(Next::CONTINUE)
    }
"#,
    test: r#"
    #[test]
    fn the_client_gets_the_greeting() {
        let plugin = testing::conf::<@TYPE@>(CONF).unwrap();
        let outcome = plugin.header_filter(Response::new(200));
        assert_eq!(outcome.header("x-greeting").unwrap(), "hi");
    }
"#,
    uses: &["Next", "Response", "Result"],
    test_uses: "Response",
    about: "tells the client in a header of the response",
};

const BODY_FILTER: Code = Code {
    method: r#"
    /// On a response, with its whole body.
    #[needs(response_body)]
    fn body_filter(&self, config: &Config, response: &mut Response<'_>) -> Result<Next> {
        if let Some(body) = response.body()? {
            let line = format!("{}\n", config.greeting);
            response.set_body([line.as_bytes(), body.as_bytes()].concat())?;
        }
        Ok(Next::CONTINUE)
    }
"#,
    test: r#"
    #[test]
    fn the_body_starts_with_the_greeting() {
        let plugin = testing::conf::<@TYPE@>(CONF).unwrap();
        let outcome = plugin.body_filter(Response::new(200).body("page"));
        assert_eq!(outcome.body().unwrap(), "hi\npage");
    }
"#,
    uses: &["Next", "Response", "Result"],
    test_uses: "Response",
    about: "puts a line before the body of the response",
};

const LOG: Code = Code {
    method: r#"
    /// After the reply was written, off the client's path. It can change nothing any more.
    fn log(&self, config: &Config, call: &Call<'_>) {
        let took = call.end().map(|end| end.took());
        tracing::info!(greeting = config.greeting, ?took, "a call is over");
    }
"#,
    test: r#"
    #[test]
    fn every_call_is_logged_with_the_greeting() {
        let plugin = testing::conf::<@TYPE@>(CONF).unwrap();
        let outcome = plugin.log_request(Request::get("/"));
        assert_eq!(outcome.events()[0].message, "a call is over");
        assert_eq!(outcome.events()[0].fields["greeting"], "hi");
    }
"#,
    uses: &["Call", "tracing"],
    test_uses: "Request",
    about: "logs every call",
};

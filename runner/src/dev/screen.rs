//! What the local gateway prints: requests on standard output, everything else on standard error. Coloured only on a
//! terminal. A closed output is no reason to stop serving.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use super::journal::{Kind, Told};

const DIM: u8 = 2;
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;

/// Which outputs take colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    colours: bool,
    /// Those of standard error.
    pub(super) error_colours: bool,
}

impl Screen {
    /// `NO_COLOR` (no-color.org) and `TERM=dumb` turn colours off.
    pub(super) fn of_process() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colours: !plain && io::stdout().is_terminal(),
            error_colours: !plain && io::stderr().is_terminal(),
        }
    }

    /// One line for a request: method, path, status, what each hook's plugins did, time.
    pub(super) fn request(&self, told: &Told) {
        let status = match told.status {
            Some(status) => {
                let colour = [GREEN, GREEN, GREEN, CYAN, YELLOW];
                let colour = colour.get(usize::from(status / 100)).copied();
                paint(self.colours, colour.unwrap_or(RED), &status.to_string())
            }
            None => paint(self.colours, RED, "closed"),
        };
        let mut line = format!("{} {} {status}", told.method, visible(&told.target));
        for hook in &told.hooks {
            // Writing to a string cannot fail.
            let _ = write!(line, "  {}", visible(&hook.summary()));
        }
        let took = format!("{:.1} ms", told.took.as_secs_f64() * 1000.0);
        let _ = write!(line, "  {}", paint(self.colours, DIM, &took));
        say(&line);
    }

    /// One line for something else.
    pub(super) fn note(&self, kind: Kind, text: &str) {
        let (mark, colour) = match kind {
            Kind::Build => ("build:", CYAN),
            Kind::Swap => ("swap:", GREEN),
            Kind::Info => ("info:", DIM),
            Kind::Warning => ("warning:", YELLOW),
            Kind::Fault => ("error:", RED),
        };
        let mark = paint(self.error_colours, colour, mark);
        tell(&format!("{mark} {}", visible(text)));
    }

    /// What the compiler says, as it wants to be shown.
    #[expect(clippy::unused_self, reason = "all output goes through the screen")]
    pub(super) fn compiler(&self, text: &str) {
        tell(text.trim_end());
    }
}

fn paint(colours: bool, colour: u8, text: &str) -> String {
    match colours {
        true => format!("\x1b[{colour}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// With control characters made visible: clients and plugins choose these texts.
fn visible(text: &str) -> String {
    let visible = |c: char| match c {
        c if c.is_control() => c.escape_default().collect(),
        c => c.to_string(),
    };
    text.chars().map(visible).collect()
}

/// Prints one line on standard output: the address, then a line for each request.
pub(super) fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Prints one line on standard error: everything that is not a request.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

//! From a tracing event and the spans around it to one record. Decides what is logged at all.

use std::error::Error;
use std::fmt::{self, Write};
use std::sync::Arc;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::queue::Queue;
use super::render::{self, Fields, Record};
use super::{Style, plugin_event};
use crate::config::Level;

/// Bytes of one value; the rest is cut off. A plugin may log what it likes.
const MAX_VALUE: usize = 16 << 10;

pub(super) struct LogLayer {
    style: Style,
    queue: Arc<Queue>,
}

impl LogLayer {
    pub(super) fn new(style: Style, queue: Arc<Queue>) -> Self {
        Self { style, queue }
    }
}

/// Spans up to info always exist, so that a warning has its call's fields even if only warnings
/// are logged.
fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let limit = if metadata.is_span() {
        super::level().max(Level::Info)
    } else {
        super::level()
    };
    level_of(metadata) <= limit
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_wanted(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_wanted(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match super::level() {
            Level::Error | Level::Warn | Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        })
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Collected::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Collected>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut found = Collected::default();
        let scope = context.event_scope(event).map(|scope| scope.from_root());
        for span in scope.into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Collected>() {
                found.fields.extend(&fields.fields);
            }
        }
        event.record(&mut found);
        let metadata = event.metadata();
        let mut record = Record::new(level_of(metadata), metadata.target(), found.message);
        record.fields = found.fields;
        if metadata.target() == plugin_event::TARGET {
            record.is_plugins_own();
        } else if metadata.target() == super::CALL_TARGET {
            record.unpack_fields();
        }
        self.queue
            .push(render::line(&record, self.style).as_bytes());
    }
}

/// The values of an event or a span.
#[derive(Default)]
struct Collected {
    message: String,
    fields: Fields,
}

impl Collected {
    fn add(&mut self, field: &Field, value: Value) {
        self.fields.set(field.name(), value);
    }
}

impl Visit for Collected {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.add(field, number.into()),
            None => self.record_debug(field, &value),
        }
    }

    /// With its causes: an error tells its own level only.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = Capped::default();
        let _ = write!(text, "{value}");
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.add(field, text.text.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Capped::default();
        // An error means that it was cut, which the text shows.
        let _ = write!(text, "{value:?}");
        if field.name() == "message" {
            self.message = text.text;
        } else {
            self.add(field, text.text.into());
        }
    }
}

/// A text that stops growing.
#[derive(Default)]
struct Capped {
    text: String,
}

impl Write for Capped {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MAX_VALUE.saturating_sub(self.text.len());
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| part.is_char_boundary(*end));
        self.text.push_str(&part[..end.unwrap_or(0)]);
        self.text.push_str("… (cut)");
        Err(fmt::Error)
    }
}

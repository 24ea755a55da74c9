//! The results as a picture: CPU and calls per second against the limit, over the number of connections.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::rounds::Figures;

/// Draws both panels into an SVG file.
///
/// # Errors
/// The file cannot be written.
pub fn draw(file: &Path, figures: &[Figures]) -> Result<()> {
    let root = SVGBackend::new(file, (900, 420)).into_drawing_area();
    let drawn = root.fill(&WHITE).map_err(|error| anyhow!("{error}"));
    drawn?;
    let (left, right) = root.split_horizontally(450);
    panel(&left, "CPU per call, limit = 1", figures, |row| {
        row.cpu_ratio
    })?;
    panel(&right, "calls per second, limit = 1", figures, |row| {
        row.rate_ratio
    })?;
    root.present().map_err(|error| anyhow!("{error}"))
}

/// Draws one bar for each ratio; the line is at 1.
///
/// # Errors
/// The file cannot be written.
pub fn bars(file: &Path, ratios: &[(String, f64)]) -> Result<()> {
    let height = 60 + 24 * ratios.len() as u32;
    let root = SVGBackend::new(file, (900, height)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    let most = ratios.iter().map(|(_, ratio)| *ratio).fold(1.5, f64::max);
    let place = |ratio: f64| 400 + (ratio / most * 420.0) as i32;
    let font = ("sans-serif", 14);
    for (row, (name, ratio)) in ratios.iter().enumerate() {
        let top = 36 + 24 * row as i32;
        let bar = Rectangle::new(
            [(400, top), (place(*ratio), top + 16)],
            BLUE.mix(0.5).filled(),
        );
        root.draw(&bar).map_err(|error| anyhow!("{error}"))?;
        for (text, x) in [
            (name.clone(), 12),
            (format!("{ratio:.2}"), place(*ratio) + 6),
        ] {
            let text = Text::new(text, (x, top + 2), font);
            root.draw(&text).map_err(|error| anyhow!("{error}"))?;
        }
    }
    let line = PathElement::new([(place(1.0), 30), (place(1.0), height as i32 - 12)], RED);
    root.draw(&line).map_err(|error| anyhow!("{error}"))?;
    let title = Text::new("against the usual, or the limit (red: 1)", (12, 8), font);
    root.draw(&title).map_err(|error| anyhow!("{error}"))?;
    root.present().map_err(|error| anyhow!("{error}"))
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    figures: &[Figures],
    value: fn(&Figures) -> f64,
) -> Result<()> {
    let most = figures.iter().map(value).fold(1.0, f64::max) * 1.1;
    let connections = figures.iter().map(|row| row.connections as f64);
    let (least, last) = connections.fold((f64::MAX, 1.0), |(a, b), n| (a.min(n), f64::max(b, n)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(40)
        .build_cartesian_2d((least..last.max(least + 1.0)).log_scale(), 0.0..most)?;
    chart.configure_mesh().x_desc("connections").draw()?;
    let mut names: Vec<&str> = figures.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for (index, name) in names.into_iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let own = figures.iter().filter(|row| row.name == name);
        let points = own.map(|row| (row.connections as f64, value(row)));
        let line = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        line.label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart.configure_series_labels().border_style(BLACK).draw()?;
    Ok(())
}

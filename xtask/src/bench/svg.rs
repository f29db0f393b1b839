//! Bars of ratios as an SVG picture, on a logarithmic scale: half as much and twice as much are
//! equally far from one.

use std::fmt::Write as _;

use super::figures::Better;
use super::statistics::Spread;

/// One figure: the ratios to Linux PVH and to the better Linux, with what is aimed at.
pub(super) struct Row {
    pub(super) label: &'static str,
    pub(super) better: Better,
    pub(super) bars: [(Option<Spread>, Option<f64>); 2],
}

const LABELS: f64 = 300.0;
const PLOT: f64 = 520.0;
const MARGIN: f64 = 20.0;
const BAR: f64 = 10.0;
const ROW: f64 = 34.0;
const HEAD: f64 = 60.0;
const LINE: f64 = 16.0;
const COLOURS: [&str; 2] = ["#1f6f8b", "#99a8b2"];
const NAMES: [&str; 2] = ["against Linux PVH", "against the better Linux guest"];

/// The picture.
pub(super) fn ratios(rows: &[Row], caption: &[String]) -> String {
    let scale = Scale::around(rows);
    let width = LABELS + PLOT + 2.0 * MARGIN;
    let bottom = HEAD + ROW * rows.len() as f64;
    let height = bottom + 2.0 * MARGIN + LINE * caption.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(
        &mut svg,
        MARGIN,
        22.0,
        "",
        "rekernel divided by Linux: median, least and most of the rounds",
    );
    for (index, (name, colour)) in NAMES.into_iter().zip(COLOURS).enumerate() {
        let x = LABELS + 230.0 * index as f64;
        rectangle(&mut svg, x, 34.0, BAR, BAR, colour);
        text(&mut svg, x + 16.0, 43.0, "", name);
    }
    for power in scale.powers() {
        let x = scale.x(power);
        let colour = if power == 1.0 { "black" } else { "#dddddd" };
        line(&mut svg, (x, HEAD), (x, bottom), colour);
        text(
            &mut svg,
            x,
            bottom + 14.0,
            " text-anchor=\"middle\"",
            &shown(power),
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let top = HEAD + ROW * index as f64 + 6.0;
        let arrow = match row.better {
            Better::Lower => "less is better",
            Better::Higher => "more is better",
        };
        text(&mut svg, MARGIN, top + 10.0, "", row.label);
        text(
            &mut svg,
            MARGIN,
            top + 23.0,
            " fill=\"#777777\" font-size=\"10\"",
            arrow,
        );
        for (offset, ((ratio, target), colour)) in row.bars.iter().zip(COLOURS).enumerate() {
            let y = top + (BAR + 2.0) * offset as f64;
            if let Some(ratio) = ratio {
                bar(&mut svg, &scale, y, ratio, colour);
                if let Some(target) = target {
                    let x = scale.x(*target);
                    line(&mut svg, (x, y - 1.0), (x, y + BAR + 1.0), "#c0392b");
                }
            }
        }
    }
    text(
        &mut svg,
        MARGIN,
        bottom + 30.0,
        " fill=\"#c0392b\"",
        "red: aimed at",
    );
    for (index, words) in caption.iter().enumerate() {
        let y = bottom + 46.0 + LINE * index as f64;
        text(
            &mut svg,
            MARGIN,
            y,
            " fill=\"#777777\" font-size=\"10\"",
            words,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn bar(svg: &mut String, scale: &Scale, y: f64, ratio: &Spread, colour: &str) {
    let (one, end) = (scale.x(1.0), scale.x(ratio.median));
    rectangle(
        svg,
        one.min(end),
        y,
        (end - one).abs().max(1.0),
        BAR,
        colour,
    );
    let middle = y + BAR / 2.0;
    line(
        svg,
        (scale.x(ratio.least), middle),
        (scale.x(ratio.most), middle),
        "black",
    );
}

/// Powers of two from the left edge to the right.
struct Scale {
    least: i32,
    most: i32,
}

impl Scale {
    /// Holds every ratio and everything aimed at, and 1.
    fn around(rows: &[Row]) -> Self {
        let bars = rows.iter().flat_map(|row| row.bars);
        let values = bars.flat_map(|(ratio, target)| {
            let ends = ratio.map(|ratio| [ratio.least, ratio.most]);
            ends.into_iter().flatten().chain(target)
        });
        let (mut least, mut most) = (-1.0_f64, 1.0_f64);
        for logarithm in values.filter(|value| *value > 0.0).map(f64::log2) {
            least = least.min(logarithm);
            most = most.max(logarithm);
        }
        Self {
            least: least.floor() as i32,
            most: most.ceil() as i32,
        }
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.least..=self.most).map(|power| 2.0_f64.powi(power))
    }

    fn x(&self, ratio: f64) -> f64 {
        let (least, most) = (f64::from(self.least), f64::from(self.most));
        let part = (ratio.log2().clamp(least, most) - least) / (most - least);
        MARGIN + LABELS + part * PLOT
    }
}

/// `1/8`, `1`, `4`.
fn shown(power: f64) -> String {
    if power < 1.0 {
        format!("1/{}", 1.0 / power)
    } else {
        power.to_string()
    }
}

// Writing to a String cannot fail.

fn rectangle(svg: &mut String, x: f64, y: f64, width: f64, height: f64, colour: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    );
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: f64, y: f64, attributes: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\"{attributes}>{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(median: f64) -> Row {
        let spread = Spread {
            median,
            least: median / 2.0,
            most: median * 2.0,
            count: 3,
        };
        Row {
            label: "round trip <of> one & all",
            better: Better::Lower,
            bars: [(Some(spread), Some(0.5)), (None, None)],
        }
    }

    #[test]
    fn the_scale_holds_everything_and_is_even_in_ratios() {
        let scale = Scale::around(&[row(0.1)]);
        assert_eq!((scale.least, scale.most), (-5, 1));
        let step = scale.x(0.5) - scale.x(0.25);
        assert!((scale.x(1.0) - scale.x(0.5) - step).abs() < 1e-9);
        assert_eq!(scale.x(2.0), MARGIN + LABELS + PLOT);
    }

    #[test]
    fn the_picture_is_well_formed() {
        let svg = ratios(&[row(0.25), row(4.0)], &["a < b".to_owned()]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("round trip &lt;of&gt; one &amp; all"));
        assert!(svg.contains(">1/8<") && svg.contains(">8<"));
        // Two bars and two keys of the legend, the background apart.
        assert_eq!(svg.matches("<rect x=").count(), 4);
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    }
}

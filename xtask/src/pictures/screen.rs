//! A terminal's screen as a picture: text with SGR sequences becomes SVG.
use std::fmt::Write as _;

/// Pixels of a character.
const WIDTH: f64 = 8.4;
const HEIGHT: usize = 18;
/// Around the screen.
const EDGE: usize = 12;

/// Colours, as a dark terminal has them.
const BACKGROUND: &str = "#1e1e1e";
const FOREGROUND: &str = "#d4d4d4";
const FAINT: &str = "#8a8a8a";

/// Foregrounds by their SGR parameter.
const COLORS: &[(&str, &str)] = &[
    ("31", "#f14c4c"),
    ("32", "#23d18b"),
    ("33", "#e5e510"),
    ("34", "#3b8eea"),
    ("36", "#29b8db"),
];

/// How a piece of text looks.
#[derive(Clone, Copy, Default, PartialEq)]
struct Look {
    color: Option<&'static str>,
    bold: bool,
    faint: bool,
    reversed: bool,
}

impl Look {
    fn change(&mut self, parameters: &str) {
        let mut parameters = parameters.split(';');
        while let Some(parameter) = parameters.next() {
            match parameter {
                "" | "0" => *self = Self::default(),
                "1" => self.bold = true,
                "2" => self.faint = true,
                "7" => self.reversed = true,
                "22" => (self.bold, self.faint) = (false, false),
                "27" => self.reversed = false,
                "39" => self.color = None,
                // A colour by its number: the first eight are those above.
                "38" => {
                    let number = parameters.by_ref().nth(1).unwrap_or_default();
                    self.paint(&format!("3{number}"));
                }
                other => self.paint(other),
            }
        }
    }

    fn paint(&mut self, code: &str) {
        let row = COLORS.iter().find(|(known, _)| *known == code);
        self.color = row.map_or(self.color, |(_, color)| Some(*color));
    }

    fn ink(self) -> &'static str {
        match self.color {
            _ if self.reversed => BACKGROUND,
            Some(color) => color,
            None if self.faint => FAINT,
            None => FOREGROUND,
        }
    }
}

/// The pieces of a line that look alike, each with its column.
fn pieces(line: &str, look: &mut Look) -> Vec<(usize, Look, String)> {
    let mut pieces = Vec::new();
    let mut column = 0;
    for (index, part) in line.split("\x1b[").enumerate() {
        let text = match part.split_once('m') {
            Some((parameters, text)) if index > 0 => {
                look.change(parameters);
                text
            }
            _ => part,
        };
        if !text.is_empty() {
            pieces.push((column, *look, text.to_owned()));
            column += text.chars().count();
        }
    }
    pieces
}

/// The screen as a document of its own.
pub(super) fn svg(screen: &str) -> String {
    let lines: Vec<&str> = screen.trim_end_matches('\n').lines().collect();
    let mut look = Look::default();
    let mut body = String::new();
    let mut columns = 0;
    for (row, line) in lines.iter().enumerate() {
        for (column, look, text) in pieces(line, &mut look) {
            let length = text.chars().count();
            columns = columns.max(column + length);
            draw(&mut body, row, column, look, &text);
        }
    }
    let width = pixels(columns) + 2.0 * EDGE as f64;
    let height = lines.len() * HEIGHT + 2 * EDGE;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n{body}</svg>\n"
    )
}

fn pixels(columns: usize) -> f64 {
    columns as f64 * WIDTH
}

fn draw(body: &mut String, row: usize, column: usize, look: Look, text: &str) {
    let x = pixels(column) + EDGE as f64;
    let top = row * HEIGHT + EDGE;
    let width = pixels(text.chars().count());
    // Writing to a string cannot fail.
    if look.reversed {
        let _ = writeln!(
            body,
            "<rect x=\"{x:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{HEIGHT}\" fill=\"{FOREGROUND}\"/>"
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let weight = if look.bold {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let _ = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{}\" fill=\"{}\"{weight} textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\">{}</text>",
        top + HEIGHT - 5,
        look.ink(),
        escaped(text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_become_looks() {
        let mut look = Look::default();
        let pieces = pieces("a\x1b[1;38;5;1mbc\x1b[0m\x1b[7md\x1b[27m e", &mut look);
        let seen: Vec<_> = pieces
            .iter()
            .map(|(column, look, text)| (*column, look.ink(), look.bold, text.as_str()))
            .collect();
        let expected = [
            (0, FOREGROUND, false, "a"),
            (1, "#f14c4c", true, "bc"),
            (3, BACKGROUND, false, "d"),
            (4, FOREGROUND, false, " e"),
        ];
        assert_eq!(seen, expected);
        let svg = svg("x < y\n\x1b[7m>\x1b[0m\n");
        assert!(
            svg.contains(">x &lt; y</text>") && svg.contains("&gt;</text>"),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect").count(), 2, "{svg}");
    }
}

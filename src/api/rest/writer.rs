//! The JSON writer: appends to one buffer, in the formats of a dialect. It decides nothing about what is shown.

use super::Dialect;
use super::dialect::{CAMPAIGNS, EnumCase, TimestampFormat};
use super::kind::Words;
use crate::api::convert;
use crate::model::Timestamp;

/// A message that can be written.
pub trait Outgoing {
    /// Writes the message.
    fn write(&self, to: &mut Writer);

    /// Writes the value of one field, or `null` when it is absent.
    fn write_field(&self, _field: usize, to: &mut Writer) {
        to.raw("null");
    }

    /// Whether a field that may be absent is there.
    fn is_present(&self, _field: usize) -> bool {
        false
    }
}

/// A buffer that JSON is appended to.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    dialect: &'static Dialect,
    /// Whether keys are named as the dialect names them in pages.
    paging: bool,
}

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub fn new(dialect: &'static Dialect) -> Self {
        Self {
            out: Vec::with_capacity(512),
            dialect,
            paging: false,
        }
    }

    /// The bytes written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// How many bytes something takes.
    pub fn measure(write: impl FnOnce(&mut Self)) -> usize {
        let mut writer = Self::new(&CAMPAIGNS);
        write(&mut writer);
        writer.out.len()
    }

    /// Writes something that names its keys as the dialect names them in pages.
    pub fn paging(&mut self, write: impl FnOnce(&mut Self)) {
        self.paging = !self.dialect.paging.names.is_empty();
        write(self);
        self.paging = false;
    }

    /// Appends text that is JSON.
    pub fn raw(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Opens an object or a list.
    pub fn open(&mut self, brace: char) {
        self.out.push(if brace == '[' { b'[' } else { b'{' });
    }

    /// Parts what follows from what is before it in the same object or list.
    pub fn comma(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    /// Begins a member of an object.
    pub fn key(&mut self, name: &str) {
        self.comma();
        let name = if self.paging {
            self.dialect.paging.outward(name)
        } else {
            name
        };
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        self.out.push(b'"');
        let mut rest = text.as_bytes();
        while let Some(at) = rest
            .iter()
            .position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\')
        {
            let (plain, special) = rest.split_at(at);
            self.out.extend_from_slice(plain);
            let Some((byte, behind)) = special.split_first() else {
                break;
            };
            self.escape(*byte);
            rest = behind;
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match byte {
            b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
            b'\n' => self.out.extend_from_slice(b"\\n"),
            b'\r' => self.out.extend_from_slice(b"\\r"),
            b'\t' => self.out.extend_from_slice(b"\\t"),
            other => {
                let digit = |half: u8| HEX.get(usize::from(half)).copied().unwrap_or(b'0');
                let escape = [b'\\', b'u', b'0', b'0', digit(other >> 4), digit(other & 15)];
                self.out.extend_from_slice(&escape);
            }
        }
    }

    /// A whole number.
    pub fn number<N: serde::Serialize>(&mut self, number: &N) {
        // Writing a number to memory does not fail.
        serde_json::to_writer(&mut self.out, number).unwrap_or_default();
    }

    /// A number with a fraction; a whole one is written without.
    pub fn float(&mut self, number: f64) {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
            // Minus zero is written without its sign.
            self.number(&(number + 0.0));
            self.cut_fraction();
        } else {
            self.number(&number);
        }
    }

    /// The same of 32 bits.
    pub fn float32(&mut self, number: f32) {
        if number.fract() == 0.0 && number.abs() <= 16_777_216.0 {
            self.number(&(number + 0.0));
            self.cut_fraction();
        } else {
            self.number(&number);
        }
    }

    /// Takes the fraction off a whole number. Formatting it without one costs five times as much.
    fn cut_fraction(&mut self) {
        if self.out.ends_with(b".0") {
            self.out.truncate(self.out.len() - 2);
        }
    }

    /// The value of an enum. One that this build does not know is written as its number.
    pub fn word(&mut self, number: i32, words: &Words) {
        let Some(value) = words.of(number) else {
            return self.number(&number);
        };
        let word = match self.dialect.enums {
            EnumCase::Word => value.word,
            EnumCase::Upper => value.suffix,
            EnumCase::Proto => value.proto,
        };
        self.text(word);
    }

    /// An instant.
    pub fn instant(&mut self, timestamp: &prost_types::Timestamp) {
        let Some(instant) = convert::instant(timestamp) else {
            return self.raw("null");
        };
        match self.dialect.timestamps {
            TimestampFormat::Iso => self.iso(instant),
            TimestampFormat::UnixSeconds => self.number(&instant.millis().div_euclid(1_000)),
            TimestampFormat::UnixMillis => self.number(&instant.millis()),
        }
    }

    /// RFC 3339 with three decimals. Lists hold dozens, so the calendar is worked out in whole numbers, after
    /// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
    fn iso(&mut self, instant: Timestamp) {
        const DAY: i64 = 86_400_000;
        let (days, millis) = (instant.millis().div_euclid(DAY), instant.millis().rem_euclid(DAY));
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        self.out.push(b'"');
        self.digits(year, 1_000);
        self.out.push(b'-');
        self.digits(month, 10);
        self.out.push(b'-');
        self.digits(day, 10);
        self.out.push(b'T');
        self.digits(millis / 3_600_000, 10);
        self.out.push(b':');
        self.digits(millis / 60_000 % 60, 10);
        self.out.push(b':');
        self.digits(millis / 1_000 % 60, 10);
        self.out.push(b'.');
        self.digits(millis % 1_000, 100);
        self.out.extend_from_slice(b"Z\"");
    }

    fn digits(&mut self, number: i64, mut place: i64) {
        while place > 0 {
            let digit = u8::try_from(number / place % 10).unwrap_or_default();
            self.out.push(b'0' + digit);
            place /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::new(&CAMPAIGNS);
        write(&mut writer);
        String::from_utf8(writer.into_bytes()).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_serde_does() {
        for text in ["", "plain", "a\"b\\c", "\u{1}\u{1f}\n\r\t", "äöü\u{7f}…", "\u{2028}"] {
            let json = written(|w| w.text(text));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn instants_print_like_the_models() {
        let step = 86_400_000 * 97 + 12_345_677;
        let mut millis = Timestamp::MIN.millis();
        while let Some(instant) = Timestamp::from_millis(millis) {
            assert_eq!(written(|w| w.iso(instant)), format!("\"{instant}\""));
            millis += step;
        }
        assert_eq!(written(|w| w.iso(Timestamp::MAX)), "\"9999-12-31T23:59:59.999Z\"");
    }

    #[test]
    fn numbers_are_short_and_exact() {
        assert_eq!(written(|w| w.float(1.0)), "1");
        assert_eq!(written(|w| w.float(-0.0)), "0");
        assert_eq!(written(|w| w.float(0.1)), "0.1");
        assert_eq!(written(|w| w.float(1e300)), "1e+300");
        assert_eq!(written(|w| w.float32(0.1)), "0.1");
        for whole in [
            -3.0_f64,
            10.0,
            1_815.0,
            1e15,
            9_007_199_254_740_991.0,
            -9_007_199_254_740_992.0,
        ] {
            assert_eq!(written(|w| w.float(whole)), format!("{whole:.0}"));
        }
        for whole in [-3.0_f32, 10.0, 16_777_215.0, -16_777_216.0] {
            assert_eq!(written(|w| w.float32(whole)), format!("{whole:.0}"));
        }
        assert_eq!(written(|w| w.number(&i64::MIN)), i64::MIN.to_string());
    }
}

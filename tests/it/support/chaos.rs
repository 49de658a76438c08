//! Requests that nobody would send: out of a list of numbers, as a property test varies and shrinks it. With the numbers
//! used up everything is as plain as it can be, so a short list is a simple request.

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

/// How deep generated messages go; what is nested deeper on purpose has no messages in it.
const DEPTH_MAX: usize = 6;

/// Values that have been trouble somewhere, as JSON or nearly so.
const NASTY: &[&[u8]] = &[
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1.5",
    b"-0",
    b"1e400",
    b"-1e400",
    b"1E-400",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"253402300800",
    b"-62135596801",
    b"\"\"",
    b"\" \"",
    b"\"\\u0000\"",
    b"\"a\\u0000b\"",
    b"\"\\ud800\"",
    b"\"\\udc00\\ud800\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\xff\xfe\"",
    b"\"\xed\xa0\x80\"",
    b"\"\\x\"",
    b"\"\n\"",
    b"\"{{name}}\"",
    b"\"{{{{{{{{\"",
    b"\"'; DROP TABLE app; --\"",
    b"\"../../etc/passwd\"",
    b"\"javascript:alert(1)\"",
    b"\"9999-12-31T23:59:60Z\"",
    b"\"0000-00-00T00:00:00Z\"",
    b"\"%00%ff\"",
    b"\"\\u202e\\ufeff\\u2028\"",
    b"[]",
    b"{}",
    b"[null]",
    b"[[]]",
    b"[{}]",
    b"{\"\":null}",
    b"{\"a\":1,\"a\":2}",
    b"{\"__proto__\":{}}",
    b"nul",
    b"NaN",
    b"Infinity",
    b"01",
    b"+1",
    b".5",
    b"1.",
    b"'a'",
    b"",
    b"\"",
    b"{",
    b"]",
    b",",
];

/// A source of decisions.
pub(crate) struct Choices<'c> {
    numbers: std::slice::Iter<'c, u32>,
    /// Words that mean something to the service.
    words: &'c [String],
}

impl<'c> Choices<'c> {
    pub(crate) fn new(numbers: &'c [u32], words: &'c [String]) -> Self {
        Self {
            numbers: numbers.iter(),
            words,
        }
    }

    /// A number; zero when there are no more.
    pub(crate) fn number(&mut self) -> u32 {
        self.numbers.next().copied().unwrap_or_default()
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number()).unwrap() % bound.max(1)
    }

    /// Whether what happens once in so many times happens; never when there are no more numbers.
    pub(crate) fn rarely(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of these.
    pub(crate) fn pick<'v, V: ?Sized>(&mut self, values: &[&'v V]) -> &'v V {
        values[self.below(values.len())]
    }

    /// A word that means something, most of the time.
    pub(crate) fn word(&mut self) -> String {
        match self.below(12) {
            0..=8 if !self.words.is_empty() => self.words[self.below(self.words.len())].clone(),
            9 => "x".repeat(self.below(300)),
            _ => (0..self.below(8))
                .filter_map(|_| char::from_u32(self.number() % 0x3000))
                .collect(),
        }
    }

    /// JSON for a message, or nearly.
    pub(crate) fn json(&mut self, message: &MessageDescriptor) -> Vec<u8> {
        let mut out = Vec::new();
        self.object(message, 0, &mut out);
        self.damage(&mut out, 12);
        if self.rarely(40) {
            out.splice(0..0, *b"\xef\xbb\xbf");
        }
        out
    }

    fn object(&mut self, message: &MessageDescriptor, depth: usize, out: &mut Vec<u8>) {
        match message.full_name() {
            "google.protobuf.Timestamp" => {
                let instants: [&[u8]; 4] = [
                    b"\"2024-01-15T09:30:00.000Z\"",
                    b"1705311000",
                    b"\"2024-01-15T09:30:00+02:00\"",
                    b"1e9",
                ];
                return out.extend(self.pick(&instants));
            }
            "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue" => {
                return self.free(depth, out);
            }
            _ => {}
        }
        out.push(b'{');
        let mut first = true;
        for field in message.fields() {
            let often = if depth < DEPTH_MAX { 2 } else { 8 };
            if self.below(often) != often - 1 {
                continue;
            }
            let twice = if self.rarely(40) { 2 } else { 1 };
            for _ in 0..twice {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                self.name(&field, out);
                out.push(b':');
                self.field(&field, depth, out);
            }
        }
        out.push(b'}');
    }

    fn name(&mut self, field: &FieldDescriptor, out: &mut Vec<u8>) {
        let name = match self.below(30) {
            27 => field.name().to_owned(),
            28 => format!("{}x", field.json_name()),
            29 => self.word(),
            _ => field.json_name().to_owned(),
        };
        out.extend(serde_json::to_vec(&name).unwrap());
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize, out: &mut Vec<u8>) {
        if self.rarely(25) {
            return self.nasty(out);
        }
        if field.cardinality() != Cardinality::Repeated {
            return self.value(&field.kind(), depth, out);
        }
        let count = if self.rarely(60) { 2_000 } else { self.below(4) };
        let (open, close) = if field.is_map() { (b'{', b'}') } else { (b'[', b']') };
        out.push(open);
        for at in 0..count {
            if at > 0 {
                out.push(b',');
            }
            if field.is_map() {
                out.extend(serde_json::to_vec(&self.word()).unwrap());
                out.push(b':');
                let entry = field.kind();
                self.value(&entry.as_message().unwrap().map_entry_value_field().kind(), depth, out);
            } else {
                self.value(&field.kind(), depth, out);
            }
        }
        out.push(close);
    }

    fn value(&mut self, kind: &Kind, depth: usize, out: &mut Vec<u8>) {
        match kind {
            Kind::Message(message) if depth < DEPTH_MAX => self.object(message, depth + 1, out),
            Kind::Message(_) => out.extend(b"{}"),
            Kind::Bool => out.extend(self.pick::<[u8]>(&[b"false", b"true"])),
            Kind::Enum(words) => {
                let values: Vec<_> = words.values().collect();
                let value = &values[self.below(values.len())];
                let suffix = value.name().rsplit('_').next().unwrap_or_default().to_lowercase();
                let word = if self.rarely(4) {
                    value.name().to_owned()
                } else {
                    suffix
                };
                out.extend(serde_json::to_vec(&word).unwrap());
            }
            Kind::String | Kind::Bytes => out.extend(serde_json::to_vec(&self.word()).unwrap()),
            _ => out.extend(self.below(30).to_string().into_bytes()),
        }
    }

    /// JSON of any shape.
    pub(crate) fn free(&mut self, depth: usize, out: &mut Vec<u8>) {
        match self.below(if depth > DEPTH_MAX { 4 } else { 8 }) {
            0 => out.extend(b"{}"),
            1 => out.extend(serde_json::to_vec(&self.word()).unwrap()),
            2 => out.extend(self.number().to_string().into_bytes()),
            3 => self.nasty(out),
            4 | 5 => {
                out.push(b'[');
                for at in 0..self.below(5) {
                    if at > 0 {
                        out.push(b',');
                    }
                    self.free(depth + 1, out);
                }
                out.push(b']');
            }
            _ => {
                let names = [
                    "type", "body", "text", "content", "id", "version", "url", "items", "action", "style", "title",
                ];
                out.push(b'{');
                for at in 0..self.below(6) {
                    if at > 0 {
                        out.push(b',');
                    }
                    let name = if self.rarely(6) {
                        self.word()
                    } else {
                        self.pick(&names).to_owned()
                    };
                    out.extend(serde_json::to_vec(&name).unwrap());
                    out.push(b':');
                    self.free(depth + 1, out);
                }
                out.push(b'}');
            }
        }
    }

    fn nasty(&mut self, out: &mut Vec<u8>) {
        match self.below(NASTY.len() + 4) {
            at if at < NASTY.len() => out.extend(NASTY[at]),
            at => {
                let size = 1 + self.below(3_000);
                match at - NASTY.len() {
                    0 => {
                        out.extend(vec![b'['; size]);
                        out.extend(vec![b']'; size]);
                    }
                    1 => {
                        out.extend(b"{\"a\":".repeat(size));
                        out.extend(b"1");
                        out.extend(vec![b'}'; size]);
                    }
                    2 => out.extend(vec![b'9'; size]),
                    _ => {
                        out.push(b'"');
                        out.extend(vec![b'a'; 30 * size]);
                        out.push(b'"');
                    }
                }
            }
        }
    }

    /// Protobuf for a message, or nearly.
    pub(crate) fn protobuf(&mut self, message: &MessageDescriptor) -> Vec<u8> {
        let mut out = Vec::new();
        self.wire(message, 0, &mut out);
        self.damage(&mut out, 8);
        out
    }

    fn wire(&mut self, message: &MessageDescriptor, depth: usize, out: &mut Vec<u8>) {
        for field in message.fields() {
            if self.below(2) == 0 {
                continue;
            }
            let count = match self.below(20) {
                18 => 2_000,
                19 => 3,
                _ if field.cardinality() == Cardinality::Repeated => self.below(4),
                _ => 1,
            };
            for _ in 0..count {
                self.wire_field(&field, depth, out);
            }
        }
        if self.rarely(15) {
            varint(u64::from(self.number()), out);
        }
    }

    fn wire_field(&mut self, field: &FieldDescriptor, depth: usize, out: &mut Vec<u8>) {
        let number = u64::from(field.number());
        let own = match field.kind() {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => 1,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => 5,
            Kind::String | Kind::Bytes | Kind::Message(_) => 2,
            _ => 0,
        };
        let wire = if self.rarely(40) {
            u64::from(self.number() % 8)
        } else {
            own
        };
        varint(number << 3 | wire, out);
        match (wire, field.kind()) {
            (1, _) => out.extend(self.double().to_le_bytes()),
            (5, _) => out.extend(self.number().to_le_bytes()),
            (2, Kind::Message(inner)) if depth < DEPTH_MAX => {
                let mut content = Vec::new();
                self.wire(&inner, depth + 1, &mut content);
                delimited(&content, out);
            }
            (2, _) if self.rarely(20) => delimited(&[0xff, 0xfe, 0xed, 0xa0, 0x80], out),
            (2, _) if self.rarely(20) => delimited(b"a\0b", out),
            (2, _) => delimited(self.word().as_bytes(), out),
            (0, _) => {
                let number = u64::from(self.number());
                let number = match self.below(6) {
                    0..=3 => number % 4,
                    4 => number,
                    _ => u64::MAX - number % 3,
                };
                varint(number, out);
            }
            _ => {}
        }
    }

    fn double(&mut self) -> f64 {
        let odd = [
            0.0,
            1.0,
            -0.5,
            1e300,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            253_402_300_800.0,
        ];
        odd[self.below(odd.len())]
    }

    /// Breaks bytes somewhere, once in so many times.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>, times: usize) {
        if !self.rarely(times) || bytes.is_empty() {
            return;
        }
        let at = self.below(bytes.len());
        let byte = u8::try_from(self.below(256)).unwrap();
        match self.below(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] = byte,
            2 => bytes.insert(at, byte),
            3 => bytes.extend(bytes[at..].to_vec()),
            _ => {
                bytes.remove(at);
            }
        }
    }
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

fn delimited(content: &[u8], out: &mut Vec<u8>) {
    varint(u64::try_from(content.len()).unwrap(), out);
    out.extend(content);
}

//! CSV as its bytes come in: rows as RFC 4180 has them, with their lines and offsets, in memory that does not grow with the
//! file. It never reads by itself, and does not know what a cell is for.

use std::ops::Range;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::{Delimiter, Encoding};
use crate::model::{Error, Reason, Violation};

/// The largest row, in bytes.
pub const ROW_BYTES_MAX: usize = 1024 * 1024;
/// The most cells of a row: a user and as many variables as a recipient may have.
pub const CELLS_MAX: usize = 101;
/// How much of a file is looked at to see what it is.
pub const HEAD_BYTES: usize = 4_096;

/// The room that a row gets first; it is doubled when it does not fit.
const ROOM: usize = 4_096;
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// What the beginning of a file that is not CSV looks like, and what to do about it.
const STRANGERS: [(&[u8], &str); 12] = [
    (
        b"PK\x03\x04",
        "is a workbook such as .xlsx, or a zip file: save it as CSV (UTF-8), or unpack it first",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "is an old workbook such as .xls: save it as CSV (UTF-8)",
    ),
    (b"\x1f\x8b", "is compressed with gzip: unpack it first"),
    (b"BZh", "is compressed with bzip2: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it first"),
    (b"7z\xbc\xaf", "is a 7-Zip archive: unpack it first"),
    (b"%PDF", "is a PDF document: export the table as CSV (UTF-8)"),
    (b"\xff\xfe", "is encoded as UTF-16: save it as CSV (UTF-8)"),
    (b"\xfe\xff", "is encoded as UTF-16: save it as CSV (UTF-8)"),
    (b"{", "looks like JSON: the first row of a CSV file names its columns"),
    (
        b"<",
        "looks like HTML or XML: the first row of a CSV file names its columns",
    ),
];

/// The refusal of a whole file; `problem` completes "the file …".
#[must_use]
pub fn refused(problem: &str) -> Error {
    Error::new(Reason::BadRequest, format!("the file {problem}"))
}

/// Looks at the beginning of a file and says where its first row begins.
///
/// # Errors
/// Bad request, when it is not CSV; the message says what to do.
pub fn look_at(head: &[u8]) -> Result<usize, Error> {
    if head.is_empty() {
        return Err(refused(
            "is empty: its first row names the columns, one of them user_id",
        ));
    }
    for (start, problem) in STRANGERS {
        if head.starts_with(start) {
            return Err(refused(problem));
        }
    }
    if head.contains(&0) {
        return Err(refused(NUL));
    }
    Ok(if head.starts_with(UTF8_MARK) {
        UTF8_MARK.len()
    } else {
        0
    })
}

const NUL: &str = "holds NUL bytes, as binary files and UTF-16 do: save it as CSV (UTF-8)";

/// What stands between the cells of the first row: whichever of the delimiters is most frequent there, outside of quotes.
#[must_use]
pub fn delimiter_of(head: &[u8]) -> Delimiter {
    let mut quoted = false;
    let mut counts = [0_usize; Delimiter::ALL.len()];
    for byte in head {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            byte if !quoted => {
                for (delimiter, count) in Delimiter::ALL.iter().zip(&mut counts) {
                    *count += usize::from(delimiter.byte() == *byte);
                }
            }
            _ => {}
        }
    }
    let most = counts.iter().max().copied().unwrap_or_default();
    let mut found = Delimiter::ALL.iter().zip(counts);
    found
        .find(|(_, count)| *count == most)
        .map_or(Delimiter::Comma, |(delimiter, _)| *delimiter)
}

/// Where a row begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In bytes from the beginning of the file.
    pub offset: u64,
    /// In lines, from 1.
    pub line: u64,
}

impl Place {
    /// The beginning of a file, behind so many bytes.
    #[must_use]
    pub const fn start(offset: u64) -> Self {
        Self { offset, line: 1 }
    }
}

/// What came of reading on.
#[derive(Debug)]
pub enum Step {
    /// A row; [`Rows::cells`] has it.
    Row,
    /// All that was given is read, and more is needed.
    More,
    /// The file is over.
    End,
}

/// The rows of a file.
#[derive(Debug)]
pub struct Rows {
    core: Reader,
    cells: Vec<u8>,
    ends: Vec<usize>,
    filled: (usize, usize),
    /// Where the current row begins.
    row: Place,
    /// Where the first byte stands that was not read.
    next: Place,
    inside: bool,
    after_return: bool,
    quotes: u64,
}

impl Rows {
    /// The rows from a place on, of a file that is read from there. `after_return` says that the byte before is a carriage
    /// return, whose line feed then belongs to the line before.
    #[must_use]
    pub fn new(delimiter: Delimiter, from: Place, after_return: bool) -> Self {
        let mut core = ReaderBuilder::new().delimiter(delimiter.byte()).build();
        // It takes a mark at the beginning of what it reads for that of the file, which is read away before.
        core.read_record(b"\n", &mut [], &mut []);
        Self {
            core,
            cells: vec![0; ROOM],
            ends: vec![0; CELLS_MAX + 1],
            filled: (0, 0),
            row: from,
            next: from,
            inside: false,
            after_return,
            quotes: 0,
        }
    }

    /// Reads on. Empty input is the end of the file.
    ///
    /// # Errors
    /// Bad request, when a row is too large or holds what no text does; nothing can be read any more.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Step, Error> {
        let at_end = input.is_empty();
        if !self.inside && !self.begin(input) {
            return Ok(if at_end { Step::End } else { Step::More });
        }
        loop {
            let (bytes, ends) = self.filled;
            let room = self.cells.get_mut(bytes..).unwrap_or_default();
            let slots = self.ends.get_mut(ends..).unwrap_or_default();
            let (result, read, wrote, ended) = self.core.read_record(input, room, slots);
            self.pass(input, read);
            self.filled = (bytes + wrote, ends + ended);
            let size = self.next.offset.saturating_sub(self.row.offset);
            if usize::try_from(size).is_ok_and(|size| size > ROW_BYTES_MAX) {
                return Err(self.too_large());
            }
            match result {
                ReadRecordResult::InputEmpty => return Ok(Step::More),
                ReadRecordResult::OutputFull if self.cells.len() < ROW_BYTES_MAX => {
                    self.cells.resize(self.cells.len() * 2, 0);
                }
                ReadRecordResult::OutputFull => return Err(self.too_large()),
                ReadRecordResult::OutputEndsFull => return Err(self.too_many()),
                ReadRecordResult::Record => return self.end(input, at_end),
                ReadRecordResult::End => return Ok(Step::End),
            }
        }
    }

    /// Passes the line ends in front of a row; tells whether it begins.
    fn begin(&mut self, input: &mut &[u8]) -> bool {
        let ends = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        self.pass(input, ends);
        if input.is_empty() {
            return false;
        }
        self.row = self.next;
        self.filled = (0, 0);
        self.quotes = 0;
        self.inside = true;
        true
    }

    fn end(&mut self, input: &mut &[u8], at_end: bool) -> Result<Step, Error> {
        self.inside = false;
        if self.after_return && input.first() == Some(&b'\n') {
            self.pass(input, 1);
        }
        if self.cells_read().contains(&0) {
            let line = self.row.line;
            return Err(refused(NUL).with("line", line));
        }
        let lines = self.next.line.saturating_sub(self.row.line);
        if at_end && self.quotes % 2 == 1 && lines > 0 {
            let line = self.row.line;
            let problem = format!("ends within quotes: close those that begin in the row at line {line}");
            return Err(refused(&problem).with("line", line));
        }
        Ok(Step::Row)
    }

    /// Counts what was read, kind by kind, which is many bytes at a time.
    fn pass(&mut self, input: &mut &[u8], count: usize) {
        let (read, rest) = input.split_at(count.min(input.len()));
        let of = |wanted: u8| read.iter().filter(|byte| **byte == wanted).count();
        let (feeds, returns) = (of(b'\n'), of(b'\r'));
        // A line feed behind a carriage return belongs to it.
        let paired = match returns {
            0 => 0,
            _ => read.windows(2).filter(|pair| *pair == b"\r\n").count(),
        };
        let paired = paired + usize::from(self.after_return && read.first() == Some(&b'\n'));
        self.next.line = self.next.line.saturating_add(long(feeds + returns - paired));
        self.quotes = self.quotes.saturating_add(long(of(b'"')));
        self.after_return = read.last().map_or(self.after_return, |last| *last == b'\r');
        self.next.offset = self.next.offset.saturating_add(long(read.len()));
        *input = rest;
    }

    /// Where the current row begins.
    #[must_use]
    pub const fn row(&self) -> Place {
        self.row
    }

    /// Where the row behind it begins, or line ends in front of that.
    #[must_use]
    pub const fn next(&self) -> Place {
        self.next
    }

    /// The cells of the current row.
    #[must_use]
    pub fn cells(&self, encoding: Encoding) -> Cells<'_> {
        let ends = self.ends.get(..self.filled.1).unwrap_or_default();
        Cells {
            text: self.cells_read(),
            ends,
            encoding,
        }
    }

    fn cells_read(&self) -> &[u8] {
        self.cells.get(..self.filled.0).unwrap_or_default()
    }

    fn too_large(&self) -> Error {
        let line = self.row.line;
        let problem = format!(
            "has a row of more than {ROW_BYTES_MAX} bytes at line {line}: is a quote not closed, or is it no CSV file?"
        );
        refused(&problem).with("line", line)
    }

    fn too_many(&self) -> Error {
        let line = self.row.line;
        let problem = format!("has a row of more than {CELLS_MAX} cells at line {line}: remove columns");
        refused(&problem).with("line", line)
    }
}

fn long(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The cells of one row.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    text: &'a [u8],
    ends: &'a [usize],
    encoding: Encoding,
}

impl<'a> Cells<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of a cell.
    fn bytes(&self, index: usize) -> &'a [u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before));
        let range: Range<usize> = start.copied().unwrap_or(0)..self.ends.get(index).copied().unwrap_or(0);
        self.text.get(range).unwrap_or_default()
    }

    /// The text of a cell.
    ///
    /// # Errors
    /// The violation of the encoding, without a field.
    pub fn text(&self, index: usize) -> Result<String, Violation> {
        let bytes = self.bytes(index);
        match self.encoding {
            Encoding::Utf8 => std::str::from_utf8(bytes)
                .map(str::to_owned)
                .ok()
                .ok_or_else(|| Violation::new("", NOT_UTF8).received(String::from_utf8_lossy(bytes))),
            Encoding::Windows1252 => Ok(bytes.iter().map(|byte| letter(*byte)).collect()),
        }
    }

    /// Whether every cell is a text in the encoding.
    #[must_use]
    pub fn are_texts(&self) -> bool {
        match self.encoding {
            Encoding::Utf8 => (0..self.len()).all(|index| std::str::from_utf8(self.bytes(index)).is_ok()),
            Encoding::Windows1252 => true,
        }
    }
}

const NOT_UTF8: &str = "must be UTF-8: save the file as CSV (UTF-8), or say the encoding windows-1252";

/// The refusal of a file that is not in its encoding from this line on.
#[must_use]
pub fn not_encoded(line: u64) -> Error {
    let problem = format!(
        "is not UTF-8 at line {line}: save it as CSV (UTF-8), or say the encoding windows-1252 if that is what it is"
    );
    refused(&problem).with("line", line)
}

/// The letter of a byte in Windows-1252, as browsers read it.
fn letter(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    let index = usize::from(byte).checked_sub(0x80);
    index
        .and_then(|index| HIGH.get(index))
        .copied()
        .unwrap_or_else(|| char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Vec<(Place, Vec<String>)>;

    /// Reads a file that comes in pieces of this size.
    fn read(file: &[u8], piece: usize, delimiter: Delimiter) -> Result<Read, Error> {
        let mut rows = Rows::new(delimiter, Place::start(0), false);
        let mut found = Vec::new();
        let mut pieces = file.chunks(piece).chain([&[] as &[u8]]);
        let mut input = pieces.next().unwrap();
        loop {
            match rows.read(&mut input)? {
                Step::Row => {
                    let cells = rows.cells(Encoding::Utf8);
                    let texts = (0..cells.len()).map(|index| cells.text(index).unwrap()).collect();
                    found.push((rows.row(), texts));
                    if input.is_empty() {
                        input = pieces.next().unwrap_or_default();
                    }
                }
                Step::More => input = pieces.next().unwrap_or_default(),
                Step::End => return Ok(found),
            }
        }
    }

    fn texts(read: &Read) -> Vec<Vec<&str>> {
        read.iter()
            .map(|(_, cells)| cells.iter().map(String::as_str).collect())
            .collect()
    }

    #[test]
    fn rows_are_the_same_however_their_bytes_come_in() {
        let file = b"user_id,note\r\nada,\"one\r\ntwo, \"\"three\"\"\"\r\n\r\nbob,\n\ncyd,x";
        let whole = read(file, file.len(), Delimiter::Comma).unwrap();
        assert_eq!(
            texts(&whole),
            [
                vec!["user_id", "note"],
                vec!["ada", "one\r\ntwo, \"three\""],
                vec!["bob", ""],
                vec!["cyd", "x"]
            ]
        );
        let lines: Vec<_> = whole.iter().map(|(place, _)| place.line).collect();
        assert_eq!(lines, [1, 2, 5, 7]);
        for piece in 1..file.len() {
            assert_eq!(read(file, piece, Delimiter::Comma).unwrap(), whole, "pieces of {piece}");
        }
    }

    #[test]
    fn a_file_can_be_read_on_from_the_offset_behind_any_row() {
        let file = b"a,b\r\n1,2\r\n\"3\n\",4\r5,6\n7,8\n";
        let whole = read(file, 3, Delimiter::Comma).unwrap();
        let mut rows = Rows::new(Delimiter::Comma, Place::start(0), false);
        let mut input = &file[..];
        for index in 1..whole.len() {
            assert!(matches!(rows.read(&mut input).unwrap(), Step::Row));
            let next = rows.next();
            let at = usize::try_from(next.offset).unwrap();
            let mut rest = file.get(at..).unwrap();
            let mut again = Rows::new(Delimiter::Comma, next, file.get(at - 1) == Some(&b'\r'));
            assert!(matches!(again.read(&mut rest).unwrap(), Step::Row));
            assert_eq!(again.row().line, whole.get(index).unwrap().0.line, "row {index}");
        }
    }

    #[test]
    fn a_row_without_an_end_is_refused_before_it_is_in_memory() {
        for letter in [b'x', b'"', b' '] {
            let mut rows = Rows::new(Delimiter::Comma, Place::start(0), false);
            let piece = vec![letter; 64 * 1024];
            let refused = (0..64).find_map(|_| rows.read(&mut piece.as_slice()).err()).unwrap();
            assert!(
                refused.dev_message().contains("more than 1048576 bytes at line 1"),
                "{refused}"
            );
            assert!(rows.cells.len() <= ROW_BYTES_MAX);
        }
        let mut rows = Rows::new(Delimiter::Comma, Place::start(0), false);
        let refused = rows.read(&mut [b','; 200].as_slice()).unwrap_err();
        assert!(refused.dev_message().contains("more than 101 cells"), "{refused}");
    }

    #[test]
    fn a_file_that_ends_within_quotes_over_several_lines_is_refused() {
        let refused = read(b"a,b\n1,\"x\n2,y\n", 100, Delimiter::Comma).unwrap_err();
        assert!(refused.dev_message().contains("line 2"), "{refused}");
        assert_eq!(read(b"a,b\n1,5\" pipe\n", 100, Delimiter::Comma).unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_csv_is_told_what_to_do() {
        for (head, advice) in [
            (&b"PK\x03\x04\x14"[..], "save it as CSV"),
            (b"\x1f\x8b\x08", "unpack"),
            (b"\xff\xfeu\0", "UTF-16"),
            (b"u\0s\0e\0r\0", "UTF-16"),
            (b"", "empty"),
            (b"%PDF-1.7", "PDF"),
        ] {
            let refused = look_at(head).unwrap_err();
            assert!(refused.dev_message().contains(advice), "{refused}");
        }
        assert_eq!(look_at(b"\xef\xbb\xbfuser_id").unwrap(), 3);
        assert_eq!(look_at(b"user_id").unwrap(), 0);
    }

    #[test]
    fn the_delimiter_is_the_most_frequent_of_the_first_row() {
        for (head, delimiter) in [
            (&b"user_id,code\n;;;;"[..], Delimiter::Comma),
            (b"user_id;code\r\n,,,,", Delimiter::Semicolon),
            (b"user_id\tcode", Delimiter::Tab),
            (b"\"a,b,c\";d", Delimiter::Semicolon),
            (b"user_id", Delimiter::Comma),
        ] {
            assert_eq!(delimiter_of(head), delimiter, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn letters_of_windows_1252_are_those_that_spreadsheets_write() {
        let text: String = b"caf\xe9 \x80 \x96".iter().map(|byte| letter(*byte)).collect();
        assert_eq!(text, "café € –");
    }
}

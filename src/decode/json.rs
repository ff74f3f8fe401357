//! Walks one JSON text from left to right without building anything.
//!
//! Owns the grammar of RFC 8259: what is a string, a number, a nesting; nothing of columns. Accepts exactly the texts that
//! `serde_json` accepts (tested against it). Copies nothing but strings with escapes, and never recurses, so no input can exhaust
//! the stack.

use super::fault::Fault;

/// Objects and arrays that may stand inside one another.
pub(super) const DEPTH_MAX: u32 = 128;

/// Digits that always fit an `i64`.
const SMALL_DIGITS_MAX: usize = 18;

/// A position in a JSON text.
#[derive(Debug)]
pub(super) struct Json<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    /// Where a string with escapes is put together.
    scratch: &'a mut String,
}

/// A value that is neither null nor nested.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar<'a> {
    Bool(bool),
    Number(Number<'a>),
    Text(&'a str),
}

/// A number as it stands in the text: nothing is lost to a double.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    /// Its text, which follows the JSON grammar.
    pub(super) text: &'a str,
    /// Its value, where it is written as an integer of at most 18 digits.
    pub(super) small: Option<i64>,
}

impl<'a> Number<'a> {
    /// A text that is a JSON number from its first to its last byte.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (end, small) = scan_number(text.as_bytes(), 0).ok()?;
        (end == text.len()).then_some(Self { text, small })
    }
}

type Result<T> = std::result::Result<T, Box<Fault>>;

impl<'a> Json<'a> {
    pub(super) fn new(text: &'a str, scratch: &'a mut String) -> Self {
        Self { text, at: 0, depth: 0, scratch }
    }

    /// Byte position.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space; 0 at the end (no JSON token begins with it).
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return byte;
            }
            self.at += 1;
        }
        0
    }

    /// Steps into the object or array whose opening byte is next.
    #[inline]
    pub(super) fn open(&mut self) -> Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(Fault::syntax(self.at, "nested deeper than 128 levels"));
        }
        self.at += 1;
        self.depth += 1;
        Ok(())
    }

    /// Whether another member follows; steps over the comma before it, or out of the object or array that ends with `close`.
    #[inline]
    pub(super) fn more(&mut self, first: bool, close: u8) -> Result<bool> {
        let byte = self.peek();
        if byte == close {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if first {
            return Ok(true);
        }
        if byte == b',' {
            self.at += 1;
            return Ok(true);
        }
        Err(self.unexpected(if close == b'}' { "expected `,` or `}`" } else { "expected `,` or `]`" }))
    }

    /// Steps over the field name and its colon if the name stands next exactly as `quoted` (with its quotes).
    #[inline]
    pub(super) fn take_key(&mut self, quoted: &[u8]) -> Result<bool> {
        self.peek();
        if !self.text.as_bytes()[self.at..].starts_with(quoted) {
            return Ok(false);
        }
        self.at += quoted.len();
        self.colon()?;
        Ok(true)
    }

    /// The field name that stands next. Call [`Json::colon`] after it.
    pub(super) fn key(&mut self) -> Result<&str> {
        if self.peek() != b'"' {
            return Err(self.unexpected("expected a field name in quotes"));
        }
        self.string()
    }

    /// The field name at `at`, which was read before, for the path of a fault.
    #[cold]
    pub(super) fn key_again(&self, at: usize) -> String {
        let mut scratch = String::new();
        let mut again = Json { text: self.text, at, depth: 0, scratch: &mut scratch };
        again.key().map(str::to_owned).unwrap_or_default()
    }

    /// Steps over the colon after a field name.
    #[inline]
    pub(super) fn colon(&mut self) -> Result<()> {
        if self.peek() != b':' {
            return Err(self.unexpected("expected `:`"));
        }
        self.at += 1;
        Ok(())
    }

    /// The value that stands next, which begins neither an object nor an array nor null.
    #[inline]
    pub(super) fn scalar(&mut self) -> Result<Scalar<'_>> {
        match self.peek() {
            b'"' => Ok(Scalar::Text(self.string()?)),
            b'-' | b'0'..=b'9' => Ok(Scalar::Number(self.number()?)),
            b't' => self.word("true").map(|()| Scalar::Bool(true)),
            b'f' => self.word("false").map(|()| Scalar::Bool(false)),
            _ => Err(self.unexpected("expected a value")),
        }
    }

    /// Steps over `word`.
    #[inline]
    pub(super) fn word(&mut self, word: &'static str) -> Result<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// The end of the text: nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<()> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected("expected the end after the value")) }
    }

    /// Steps over any value, however nested, and checks its grammar.
    pub(super) fn skip(&mut self) -> Result<()> {
        let floor = self.depth;
        // One bit per open level, the innermost lowest: 1 for an object. `open` refuses the 129th.
        let mut objects: u128 = 0;
        loop {
            let open = match self.peek() {
                b'{' => Some(b'}'),
                b'[' => Some(b']'),
                b'n' => self.word("null").map(|()| None)?,
                b'"' => self.skip_string().map(|()| None)?,
                _ => self.scalar().map(|_| None)?,
            };
            let mut entered = false;
            if let Some(close) = open {
                self.open()?;
                objects = objects << 1 | u128::from(close == b'}');
                entered = self.more(true, close)?;
                if !entered {
                    objects >>= 1;
                }
            }
            while !entered && self.depth > floor {
                let close = if objects & 1 == 1 { b'}' } else { b']' };
                entered = self.more(false, close)?;
                if !entered {
                    objects >>= 1;
                }
            }
            if !entered {
                return Ok(());
            }
            if objects & 1 == 1 {
                self.skip_key()?;
            }
        }
    }

    /// A fault for the value that began at `start`. Where that value is not even JSON, the fault says so instead.
    #[cold]
    pub(super) fn wrong(&mut self, start: usize, expected: &str, why: &str) -> Box<Fault> {
        self.at = start;
        match self.skip() {
            Ok(()) => Fault::wrong(expected, &self.text[start..self.at], why),
            Err(fault) => fault,
        }
    }

    /// A fault at this position, which says where the text simply ends.
    #[cold]
    pub(super) fn unexpected(&self, what: &str) -> Box<Fault> {
        if self.at >= self.text.len() {
            return Fault::syntax(self.text.len(), "the text ends in the middle");
        }
        Fault::syntax(self.at, what)
    }

    /// The string whose opening quote is next, without its escapes.
    #[inline]
    fn string(&mut self) -> Result<&str> {
        let start = self.at + 1;
        let end = start + plain_len(&self.text.as_bytes()[start..]);
        if self.text.as_bytes().get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(&self.text[start..end]);
        }
        self.escaped(start, end)
    }

    /// The same for a string whose first run of plain text, `start..end`, does not end at a quote.
    fn escaped(&mut self, start: usize, end: usize) -> Result<&str> {
        self.scratch.clear();
        self.scratch.push_str(&self.text[start..end]);
        self.at = end;
        loop {
            let bytes = self.text.as_bytes();
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(self.scratch);
                }
                Some(b'\\') => {
                    let symbol = self.escape()?;
                    self.scratch.push(symbol);
                }
                _ => return Err(self.unexpected("a control character must be escaped")),
            }
            let run = plain_len(&bytes[self.at..]);
            self.scratch.push_str(&self.text[self.at..self.at + run]);
            self.at += run;
        }
    }

    /// What the escape whose backslash is next stands for.
    fn escape(&mut self) -> Result<char> {
        let start = self.at;
        self.at += 2;
        Ok(match self.text.as_bytes().get(start + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => {
                self.at = start;
                return Err(self.unexpected("no such escape"));
            }
        })
    }

    /// The character of an escape of four hexadecimal digits, or of two such escapes that form a surrogate pair, whose first began
    /// at `start`.
    fn unicode_escape(&mut self, start: usize) -> Result<char> {
        let first = self.hex()?;
        let code = if (0xD800..0xDC00).contains(&first) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.hex()?;
            match second.checked_sub(0xDC00) {
                Some(low) if low < 0x400 => 0x10000 + ((first - 0xD800) << 10) + low,
                _ => first,
            }
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| Fault::syntax(start, "half of a surrogate pair"))
    }

    /// Four hexadecimal digits.
    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        let mut value = 0;
        for &digit in digits {
            let Some(digit) = char::from(digit).to_digit(16) else {
                return Err(self.unexpected("expected four hexadecimal digits"));
            };
            value = value << 4 | digit;
        }
        if digits.len() < 4 {
            self.at = self.text.len();
            return Err(self.unexpected("expected four hexadecimal digits"));
        }
        self.at += 4;
        Ok(value)
    }

    fn skip_key(&mut self) -> Result<()> {
        if self.peek() != b'"' {
            return Err(self.unexpected("expected a field name in quotes"));
        }
        self.skip_string()?;
        self.colon()
    }

    fn skip_string(&mut self) -> Result<()> {
        self.at += 1;
        loop {
            let bytes = self.text.as_bytes();
            self.at += plain_len(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                // A lone surrogate is well-formed by the grammar; it only cannot become text.
                Some(b'\\') if bytes.get(self.at + 1) == Some(&b'u') => {
                    self.at += 2;
                    self.hex()?;
                }
                Some(b'\\') => {
                    self.escape()?;
                }
                _ => return Err(self.unexpected("a control character must be escaped")),
            }
        }
    }

    #[inline]
    fn number(&mut self) -> Result<Number<'a>> {
        match scan_number(self.text.as_bytes(), self.at) {
            Ok((end, small)) => {
                let text = &self.text[self.at..end];
                self.at = end;
                Ok(Number { text, small })
            }
            Err(at) => {
                self.at = at;
                Err(self.unexpected("expected a digit"))
            }
        }
    }
}

/// Whether the whole text is one JSON value; the fault says where it is not.
pub(super) fn check(text: &str, scratch: &mut String) -> Result<()> {
    let mut json = Json::new(text, scratch);
    json.skip()?;
    json.end()
}

/// The text of a record's bytes.
#[inline]
pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    // Errors of the fast check have no position; the slow one finds it.
    simdutf8::basic::from_utf8(bytes).map_err(|_| {
        let at = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len);
        Fault::syntax(at, "the bytes are not UTF-8")
    })
}

/// End of the number that begins at `at`, and its value if it is a small integer; or where it stops being a number.
#[inline]
fn scan_number(bytes: &[u8], at: usize) -> std::result::Result<(usize, Option<i64>), usize> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let mut end = start;
    let mut value: i64 = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
        // Wraps only past 18 digits, and then the value is not used.
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
        end += 1;
    }
    if end == start {
        return Err(end);
    }
    if bytes[start] == b'0' && end - start > 1 {
        return Err(start + 1);
    }
    let mut small = (end - start <= SMALL_DIGITS_MAX).then_some(if negative { value.wrapping_neg() } else { value });
    if bytes.get(end) == Some(&b'.') {
        small = None;
        end = digits(bytes, end + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        small = None;
        end = digits(bytes, end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-'))))?;
    }
    Ok((end, small))
}

/// End of at least one digit from `start` on.
fn digits(bytes: &[u8], start: usize) -> std::result::Result<usize, usize> {
    let len = bytes.get(start..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 { Err(start.min(bytes.len())) } else { Ok(start + len) }
}

/// Bytes before the first quote, backslash or control character.
#[inline]
fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    // Most texts are either shorter than a word or much longer.
    if let Some(&word) = bytes.first_chunk::<8>() {
        if let Some(index) = first_special(u64::from_le_bytes(word)) {
            return index;
        }
        at = 8;
    }
    // Written so that the compiler makes vector code of it: a special byte is one that comes to zero.
    while let Some(block) = bytes[at..].first_chunk::<64>() {
        let zero = |byte: u8| (byte ^ b'"').min(byte ^ b'\\').min(byte.saturating_sub(0x1f));
        if block.iter().fold(u8::MAX, |least, &byte| least.min(zero(byte))) == 0 {
            break;
        }
        at += 64;
    }
    while let Some(&word) = bytes[at..].first_chunk::<8>() {
        if let Some(index) = first_special(u64::from_le_bytes(word)) {
            return at + index;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|&&byte| byte != b'"' && byte != b'\\' && byte >= 0x20).count()
}

/// Index of the first special byte among eight. Borrows of the subtraction can only mark bytes above the first one.
#[inline]
fn first_special(word: u64) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let quotes = zero_in(word ^ u64::from_ne_bytes([b'"'; 8]));
    let backslashes = zero_in(word ^ u64::from_ne_bytes([b'\\'; 8]));
    let controls = word.wrapping_sub(u64::from_ne_bytes([0x20; 8])) & !word & HIGHS;
    let special = quotes | backslashes | controls;
    (special != 0).then(|| usize::try_from(special.trailing_zeros() / 8).expect("below 8"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_text_ends_at_the_first_special_byte(
            plain in vec(prop_oneof![0x20u8..=0xff, Just(b' '), Just(b'!'), Just(b'#'), Just(b'['), Just(b']')], 0..200),
            special in prop_oneof![Just(b'"'), Just(b'\\'), 0u8..0x20],
            at in any::<prop::sample::Index>(),
        ) {
            let naive = |bytes: &[u8]| bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_len(&plain), naive(&plain));
            let mut bytes: Vec<_> = plain.into_iter().filter(|byte| !matches!(byte, b'"' | b'\\')).collect();
            let at = at.index(bytes.len() + 1);
            bytes.insert(at, special);
            prop_assert_eq!(plain_len(&bytes), at);
        }
    }
}

//! Headers with one bit flipped, and with one number replaced by those that break arithmetic.
//!
//! Nothing here knows a format: a header is what no tensor's bytes lie in, and every place in it may hold a number.

use super::damage::{Files, blames_input, evaluate, payload, read};
use super::fixtures::Fixture;
use super::{Log, Suite, guarded};
use crate::random::Random;
use crate::stopwatch::Stopwatch;
use modelferry_core::inputs::MemInputs;
use modelferry_core::plugin::Reader;
use std::ops::Range;
use std::time::Duration;

/// Larger files are left alone.
const MAX_FILE_BYTES: usize = 4096;

/// Bits of one file that are flipped, at most: all of a small header, a sample of a larger one.
const MAX_BITS: usize = 8 * 384;

/// Places of one file that other numbers are put to, at most, in binary headers and in text.
const MAX_NUMBERS: usize = 1000;

/// The numbers at which widths and signs end.
const NUMBERS: [u64; 7] = [0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 63, u64::MAX];

/// A damaged file, and what was done to it.
type Damaged = (String, Vec<u8>);

pub(super) fn check_bits(suite: &Suite<'_>, log: &mut Log) {
    sweep(suite, log, |bytes, header| {
        let bits =
            header.iter().flat_map(|part| part.clone()).flat_map(|at| (0..8).map(move |bit| (at, bit)));
        let mut bits: Vec<(usize, u32)> = bits.collect();
        sample(&mut bits, MAX_BITS);
        let flip = move |(at, bit): (usize, u32)| {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            (format!("bit {bit} of byte {at} flipped"), damaged)
        };
        Box::new(bits.into_iter().map(flip))
    });
}

pub(super) fn check_numbers(suite: &Suite<'_>, log: &mut Log) {
    sweep(suite, log, |bytes, header| {
        let mut places = binary_places(bytes, header);
        sample(&mut places, MAX_NUMBERS);
        let binary = places.into_iter().map(move |(at, width, number)| {
            let mut damaged = bytes.to_vec();
            damaged[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            (format!("{number} in the {width} bytes at {at}"), damaged)
        });
        let mut texts = vec![];
        for digits in header.iter().flat_map(|part| digits(bytes, part)) {
            texts.extend(NUMBERS.map(|number| (digits.clone(), number)));
        }
        sample(&mut texts, MAX_NUMBERS);
        let text = texts.into_iter().map(move |(digits, number)| {
            (
                format!("{number} for the digits at {}", digits.start),
                with_text(bytes, header, &digits, number),
            )
        });
        Box::new(binary.chain(text))
    });
}

/// Makes the damaged files of a file, given its bytes and where its headers are.
type Damages = for<'b> fn(&'b [u8], &'b [Range<usize>]) -> Box<dyn Iterator<Item = Damaged> + 'b>;

/// Damages every small file of every fixture and sees that its reader copes.
fn sweep(suite: &Suite<'_>, log: &mut Log, damages: Damages) {
    for fixture in suite.judged_fixtures() {
        let Ok(reader) = suite.registry.reader(fixture.format) else { continue };
        let result = guarded(|| all_damages(suite, fixture, reader, damages, log)).and_then(|result| result);
        if let Err(why) = result {
            log.record::<()>(&fixture.name, Err(why));
        }
    }
}

fn all_damages(
    suite: &Suite<'_>,
    fixture: &Fixture,
    reader: &dyn Reader,
    damages: Damages,
    log: &mut Log,
) -> Result<(), String> {
    let files = Files::of(fixture)?;
    let whole = files.whole();
    let model = read(suite.registry, reader, &whole).map_err(|error| error.to_string())?;
    for idx in files.used(&model, &whole) {
        let (name, bytes) = &files.files[idx];
        if bytes.len() > MAX_FILE_BYTES {
            continue;
        }
        let header = headers(&payload(&model, &whole, name), bytes.len());
        for (what, damaged) in damages(bytes, &header) {
            let inputs = files.with(idx, &damaged);
            let result = guarded(|| copes(suite, reader, &inputs)).and_then(|result| result);
            log.record(&format!("{}, {name}, {what}", fixture.name), result);
        }
    }
    Ok(())
}

/// What lies between the parts of a file that hold bytes of tensors.
fn headers(payload: &[Range<u64>], len: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(payload.iter().map(|part| part.end as usize));
    let ends = payload.iter().map(|part| part.start as usize).chain([len]);
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end).collect()
}

/// An error that blames the input, from reading or from evaluating, or a model; and soon.
fn copes(suite: &Suite<'_>, reader: &dyn Reader, inputs: &MemInputs) -> Result<(), String> {
    let mut took = Duration::ZERO;
    for _ in 0..3 {
        let watch = Stopwatch::start();
        reader.identify(inputs);
        let result = read(suite.registry, reader, inputs).and_then(|model| evaluate(&model, inputs));
        took = watch.took();
        if let Err(error) = result {
            blames_input(&error)?;
        }
        // Once more if not: a processor that others share is slower at times.
        if took <= suite.options.max_time {
            return Ok(());
        }
    }
    Err(format!("it takes {took:?}"))
}

/// Keeps some of too many, the same ones every time.
fn sample<T>(damages: &mut Vec<T>, most: usize) {
    if damages.len() > most {
        Random::new(damages.len() as u64).shuffle(damages);
        damages.truncate(most);
    }
}

/// Every window of four and of eight bytes that is not all text, with each number that fits and is not there yet.
fn binary_places(bytes: &[u8], header: &[Range<usize>]) -> Vec<(usize, usize, u64)> {
    let mut places = vec![];
    for part in header {
        for width in [4, 8] {
            for at in part.start..(part.end + 1).saturating_sub(width) {
                let window = &bytes[at..at + width];
                if window.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
                    continue;
                }
                let fits = |number: &u64| width == 8 || *number <= u64::from(u32::MAX);
                let is_new = |number: &u64| number.to_le_bytes()[..width] != *window;
                places.extend(
                    NUMBERS.into_iter().filter(fits).filter(is_new).map(|number| (at, width, number)),
                );
            }
        }
    }
    places
}

/// The longest runs of digits.
fn digits(bytes: &[u8], part: &Range<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = vec![];
    for at in part.clone().filter(|&at| bytes[at].is_ascii_digit()) {
        match runs.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// The file with `number` for the digits at `digits`.
///
/// If the text becomes longer, blanks at its end make way for that; if there are too few, everything behind it moves,
/// and a stated length that ends where the payload begins grows with it. If it becomes shorter, a blank follows for
/// each digit that is gone. So what is judged is the number, not a header that ends in the wrong place.
fn with_text(bytes: &[u8], header: &[Range<usize>], digits: &Range<usize>, number: u64) -> Vec<u8> {
    let mut text = number.to_string().into_bytes();
    while text.len() < digits.len() {
        text.push(b' ');
    }
    let grown = text.len() - digits.len();
    let end = header.iter().find(|part| part.contains(&digits.start)).map_or(bytes.len(), |part| part.end);
    let is_blank = |byte: &&u8| matches!(**byte, b' ' | b'\n');
    let n_blank = bytes[digits.end..end].iter().rev().take_while(is_blank).count();
    let kept = if grown <= n_blank { end - grown } else { end };
    let mut damaged = [&bytes[..digits.start], &text, &bytes[digits.end..kept], &bytes[end..]].concat();
    if kept == end && grown > 0 {
        lengthen(&mut damaged, digits.start, end, grown);
    }
    damaged
}

/// Adds `grown` to the widest number before `at` that, counted from its own end, leads to `end`.
fn lengthen(damaged: &mut [u8], at: usize, end: usize, grown: usize) {
    for width in [8, 4, 2] {
        for begin in 0..(at + 1).saturating_sub(width) {
            let window = &mut damaged[begin..begin + width];
            let mut number = [0; 8];
            number[..width].copy_from_slice(window);
            let number = u64::from_le_bytes(number);
            if number == (end - begin - width) as u64 {
                window.copy_from_slice(&(number + grown as u64).to_le_bytes()[..width]);
                return;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]
mod tests {
    use super::*;

    #[test]
    fn headers_are_what_payload_is_not() {
        assert_eq!(headers(&[8..12, 20..24], 30), [0..8, 12..20, 24..30]);
        assert!(headers(&[0..12], 12).is_empty());
        assert_eq!(headers(&[], 3), [0..3]);
    }

    #[test]
    fn a_number_replaces_digits_and_nothing_else() {
        let file = |text: &str| [&[text.len() as u8, 0, 0, 0], text.as_bytes(), b"DATA"].concat();
        let check = |text: &str, number, expected: &str| {
            let bytes = file(text);
            let header = 0..bytes.len() - 4;
            let digits = digits(&bytes, &header);
            assert_eq!(with_text(&bytes, &[header], &digits[0], number), file(expected), "{text}");
        };
        check("{a: 12, b}  ", 0, "{a: 0 , b}  ");
        check("{a: 1}    ", 4096, "{a: 4096} ");
        check("{a: 1} ", 4096, "{a: 4096} ");
        check("{a: 1}", u64::MAX, "{a: 18446744073709551615}");
    }

    #[test]
    fn windows_of_text_are_no_numbers() {
        let places = binary_places(b"\0\0\0\0text", &[0..8]);
        assert_eq!(places.iter().filter(|(_, width, _)| *width == 8).count(), 7);
        assert_eq!(places.iter().filter(|place| place.0 == 0 && place.1 == 4).count(), 4);
        assert!(!places.iter().any(|place| place.0 == 4));
    }
}

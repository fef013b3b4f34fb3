//! Archives: changed by the fields of their records, and made from choices.

use crate::draw::Draw;
use crate::inputs::Sparse;
use crate::mutate::{interesting, set};
use crate::random::Random;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write as _;

/// A kind of record: its magic and its fields as (offset, width).
type Record = (&'static [u8; 4], &'static [(usize, usize)]);

const LOCAL: Record =
    (b"PK\x03\x04", &[(4, 2), (6, 2), (8, 2), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)]);
#[rustfmt::skip]
const CENTRAL: Record = (b"PK\x01\x02", &[
    (4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (36, 2),
    (38, 4), (42, 4),
]);
const END: Record = (b"PK\x05\x06", &[(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]);
const END64: Record =
    (b"PK\x06\x06", &[(4, 8), (12, 2), (14, 2), (16, 4), (20, 4), (24, 8), (32, 8), (40, 8), (48, 8)]);
const LOCATOR: Record = (b"PK\x06\x07", &[(4, 4), (8, 8), (16, 4)]);
const RECORDS: [Record; 5] = [LOCAL, CENTRAL, END, END64, LOCATOR];

/// Changes one field of one record, or a record as a whole.
pub(crate) fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let known = |magic: &[u8]| RECORDS.iter().find(|record| record.0 == magic);
    let found: Vec<(usize, &Record)> =
        bytes.windows(4).enumerate().filter_map(|(at, magic)| Some((at, known(magic)?))).collect();
    if found.is_empty() {
        return;
    }
    let (at, record) = *random.pick(&found);
    let (offset, width) = *random.pick(record.1);
    match random.below(10) {
        0..=3 => set(bytes, at + offset, width, interesting(random)),
        4 => {
            let end = (at + offset + width).min(bytes.len());
            let field = bytes.get(at + offset..end).unwrap_or_default();
            let old = field.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
            let step = random.below(5) as u64;
            set(bytes, at + offset, width, old.wrapping_add(step).wrapping_sub(2));
        }
        5 => {
            // The field of another record of this kind, so that two entries share a place, a length or a name.
            let same: Vec<usize> =
                found.iter().filter(|other| other.1.0 == record.0).map(|other| other.0).collect();
            let from = *random.pick(&same) + offset;
            let copy = bytes.get(from..(from + width).min(bytes.len())).unwrap_or_default().to_vec();
            for (to, byte) in bytes.iter_mut().skip(at + offset).zip(copy) {
                *to = byte;
            }
        }
        6 => {
            let place = random.below(bytes.len() + 64) as u64;
            set(bytes, at + offset, width, place);
        }
        7 => {
            // The same change in local headers and directory, which then agree.
            let value = interesting(random);
            let pairs = [(6, 8), (8, 10), (14, 16), (18, 20), (22, 24), (26, 28)];
            let (local, central) = *random.pick(&pairs);
            let width = if local < 14 || local == 26 { 2 } else { 4 };
            for (at, record) in &found {
                match record.0 {
                    b"PK\x03\x04" => set(bytes, at + local, width, value),
                    b"PK\x01\x02" => set(bytes, at + central, width, value),
                    _ => {}
                }
            }
        }
        8 => {
            let end = found.iter().map(|other| other.0).find(|&other| other > at).unwrap_or(bytes.len());
            let copy = bytes[at..end].to_vec();
            bytes.splice(end..end, copy);
        }
        _ => {
            let end = found.iter().map(|other| other.0).find(|&other| other > at).unwrap_or(bytes.len());
            bytes.drain(at..end);
        }
    }
}

/// One member of an archive that is being made.
struct Member {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc32: u32,
    /// As stored, without the zeros behind it.
    stored: Vec<u8>,
    zeros: u64,
    /// Bytes of the payload.
    len: u64,
    is_wide: bool,
    local_extra: Vec<u8>,
    central_extra: Vec<u8>,
    comment: Vec<u8>,
    has_descriptor: bool,
    at: u64,
}

/// An archive whose offsets, lengths and checksums are right, except where a choice says otherwise.
pub(crate) fn build(draw: &mut Draw<'_>) -> Sparse {
    let mut file = Sparse::new("made.npz", vec![], 0);
    let mut members = vec![];
    if draw.rarely(4) {
        file.push(draw.slice().to_vec());
    }
    for _ in 0..1 + draw.below(5) {
        let mut member = member(draw);
        if draw.rarely(6) {
            file.push(draw.slice().to_vec());
        }
        member.at = file.end();
        file.push(local(&member, draw));
        file.push(member.stored.clone());
        file.push_zeros(member.zeros);
        if member.has_descriptor {
            let mut descriptor = b"PK\x07\x08".to_vec();
            descriptor.extend(member.crc32.to_le_bytes());
            descriptor.extend(((member.stored.len() as u64 + member.zeros) as u32).to_le_bytes());
            descriptor.extend((member.len as u32).to_le_bytes());
            file.push(descriptor);
        }
        members.push(member);
        if draw.is_empty() {
            break;
        }
    }
    if draw.rarely(40) {
        members.reverse();
    }
    if draw.rarely(6) && members.len() > 1 {
        members.pop();
    }
    let directory_at = file.end();
    for member in &members {
        file.push(central(member, draw));
    }
    let directory_len = file.end() - directory_at;
    let n = members.len() as u64;
    let short = |value: u64| if value > 0xffff_fffe { u32::MAX } else { value as u32 };
    if draw.rarely(60) || directory_at > 0xffff_fffe {
        let end64_at = file.end();
        let mut end64 = [&b"PK\x06\x06"[..], &44u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8]].concat();
        [n, n, directory_len, directory_at].iter().for_each(|value| end64.extend(value.to_le_bytes()));
        change(&mut end64, &END64, draw);
        file.push(end64);
        let mut locator = [&b"PK\x06\x07"[..], &[0; 4], &end64_at.to_le_bytes(), &[1, 0, 0, 0]].concat();
        change(&mut locator, &LOCATOR, draw);
        file.push(locator);
    }
    let mut end = [&b"PK\x05\x06"[..], &[0; 4]].concat();
    end.extend([n as u8, 0, n as u8, 0]);
    end.extend(short(directory_len).to_le_bytes());
    end.extend(short(directory_at).to_le_bytes());
    let comment = if draw.rarely(8) { draw.slice() } else { &[] };
    end.extend((comment.len() as u16).to_le_bytes());
    change(&mut end, &END, draw);
    end.extend(comment);
    file.push(end);
    file
}

/// Sometimes sets a field of a record to something else.
fn change(record: &mut [u8], kind: &Record, draw: &mut Draw<'_>) {
    if draw.rarely(6) {
        let (offset, width) = *draw.pick(kind.1);
        let value = if draw.rarely(128) { draw.u64() } else { interesting(&mut choices(draw)) };
        set(record, offset, width, value);
    }
}

fn choices(draw: &mut Draw<'_>) -> Random {
    Random::of_case(draw.byte().into(), "choices", 0)
}

fn member(draw: &mut Draw<'_>) -> Member {
    const NAMES: [&str; 10] = [
        "a.npy",
        "b.npy",
        "layers/0/w.npy",
        "a",
        "A.npy",
        "../x.npy",
        "/abs.npy",
        "x.txt",
        "é.npy",
        "folder/",
    ];
    let name = if draw.rarely(20) { draw.slice().to_vec() } else { draw.pick(&NAMES).as_bytes().to_vec() };
    let (payload, zeros) = payload(draw);
    // Zeros that nobody holds can only be stored.
    let is_deflated = zeros == 0 && draw.rarely(100);
    let mut len = payload.len() as u64 + zeros;
    let mut crc = flate2::Crc::new();
    crc.update(&payload);
    let mut crc32 = if zeros > 0 || draw.rarely(8) { 0 } else { crc.sum() };
    if draw.rarely(6) {
        crc32 ^= 1;
    }
    let stored = if is_deflated { deflate(payload, draw) } else { payload };
    if is_deflated && draw.rarely(16) {
        len = if draw.rarely(128) {
            len.wrapping_add(draw.u64() >> 40)
        } else {
            interesting(&mut choices(draw))
        };
    }
    let field = |id: u16, payload: &[u8]| {
        [&id.to_le_bytes()[..], &(payload.len() as u16).to_le_bytes(), payload].concat()
    };
    let mut central_extra = vec![];
    if draw.rarely(30) {
        const NOTES: [&str; 8] = ["bf16", "f8_e5m2", "f8_e4m3", "f32", "q8_0", "i4", "opaque1x2", ""];
        let note = [&[draw.rarely(250) as u8][..], draw.pick(&NOTES).as_bytes()].concat();
        central_extra = field(u16::from_le_bytes(*b"FM"), &note);
    }
    if draw.rarely(8) {
        central_extra.extend(draw.slice());
    }
    let local_extra = match draw.byte() {
        0..200 => vec![],
        200..240 => field(0xd935, &[0; 20]),
        _ => draw.slice().to_vec(),
    };
    let has_descriptor = draw.rarely(30);
    let mut flags = if name.is_ascii() { 0 } else { 1 << 11 };
    flags |= u16::from(has_descriptor) << 3;
    Member {
        name,
        flags,
        method: if is_deflated { 8 } else { 0 },
        crc32,
        is_wide: draw.rarely(50) || zeros > 1 << 31,
        comment: if draw.rarely(6) { draw.slice().to_vec() } else { vec![] },
        stored,
        zeros,
        len,
        local_extra,
        central_extra,
        has_descriptor,
        at: 0,
    }
}

/// An array or something else, and how many zeros follow it.
fn payload(draw: &mut Draw<'_>) -> (Vec<u8>, u64) {
    if draw.rarely(16) {
        return (draw.slice().to_vec(), 0);
    }
    const TYPES: [(&str, u64); 12] = [
        ("<f4", 4),
        ("|u1", 1),
        ("<V2", 2),
        ("|V1", 1),
        (">i8", 8),
        ("<c16", 16),
        ("<f2", 2),
        ("|b1", 1),
        (">V2", 2),
        ("|V5", 5),
        ("<f1", 1),
        ("|O", 8),
    ];
    let (descr, width) = *draw.pick(&TYPES);
    let mut shape: Vec<u64> = (0..draw.below(4)).map(|_| draw.below(6) as u64).collect();
    if draw.rarely(12) {
        // Large for one who would read it out of order.
        shape = vec![2 + 2 * draw.below(256) as u64, 2 + 2 * draw.below(200) as u64];
    } else if draw.rarely(12) {
        shape.push(1 << (20 + draw.below(24)));
    }
    let is_fortran = draw.rarely(60);
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let order = if is_fortran { "True" } else { "False" };
    let mut text =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({extents}), }}").into_bytes();
    if draw.rarely(16) {
        crate::tokens::mutate(&mut text, &mut choices(draw));
    }
    let pad = if draw.rarely(200) { (64 - (10 + text.len() + 1) % 64) % 64 } else { draw.below(300) };
    text.extend(vec![b' '; pad]);
    text.push(b'\n');
    let version = if draw.rarely(20) { 2 } else { 1 };
    let len = (text.len() as u32).to_le_bytes();
    let mut bytes =
        [b"\x93NUMPY", &[version, 0][..], &len[..if version == 1 { 2 } else { 4 }], &text].concat();
    let mut data_len = shape.iter().fold(width, |len, &extent| len.saturating_mul(extent));
    if draw.rarely(6) {
        data_len = data_len.wrapping_add(draw.below(8) as u64).wrapping_sub(4) & ((1 << 50) - 1);
    }
    if data_len > 1 << 21 {
        return (bytes, data_len.min(1 << 50));
    }
    let seed = draw.byte();
    bytes.extend((0..data_len).map(|idx| (idx as u8).wrapping_mul(37).wrapping_add(seed)));
    (bytes, 0)
}

fn deflate(payload: Vec<u8>, draw: &mut Draw<'_>) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(vec![], Compression::new(draw.below(10) as u32));
    // A Vec takes whatever is written to it.
    let written = encoder.write_all(&payload).and_then(|()| encoder.finish());
    let mut deflated = written.unwrap_or_default();
    match draw.byte() {
        250.. => deflated.truncate(draw.byte().into()),
        244.. => deflated.extend(draw.slice()),
        238.. => {
            let at = draw.byte();
            if let Some(byte) = deflated.get_mut(usize::from(at)) {
                *byte ^= 1 << draw.below(8);
            }
        }
        _ => {}
    }
    deflated
}

fn local(member: &Member, draw: &mut Draw<'_>) -> Vec<u8> {
    let (packed, len) = (member.stored.len() as u64 + member.zeros, member.len);
    let is_wide = member.is_wide || packed >= u32::MAX.into() || len >= u32::MAX.into();
    let mut extra = vec![];
    if is_wide {
        extra = [&[1, 0, 16, 0][..], &len.to_le_bytes(), &packed.to_le_bytes()].concat();
    }
    extra.extend(&member.local_extra);
    let mut header = b"PK\x03\x04\x2d\0".to_vec();
    header.extend(member.flags.to_le_bytes());
    header.extend(member.method.to_le_bytes());
    header.extend([0, 0, 0x21, 0]);
    let (crc32, short) = match member.has_descriptor {
        true => (0, [0, 0]),
        false if is_wide => (member.crc32, [u32::MAX; 2]),
        false => (member.crc32, [packed as u32, len as u32]),
    };
    header.extend(crc32.to_le_bytes());
    short.iter().for_each(|value| header.extend(value.to_le_bytes()));
    header.extend((member.name.len() as u16).to_le_bytes());
    header.extend((extra.len() as u16).to_le_bytes());
    change(&mut header, &LOCAL, draw);
    [header, member.name.clone(), extra].concat()
}

fn central(member: &Member, draw: &mut Draw<'_>) -> Vec<u8> {
    let (packed, len) = (member.stored.len() as u64 + member.zeros, member.len);
    let is_wide =
        member.is_wide || packed >= u32::MAX.into() || len >= u32::MAX.into() || member.at >= u32::MAX.into();
    let mut extra = vec![];
    if is_wide {
        extra = [&[1, 0, 24, 0][..], &len.to_le_bytes(), &packed.to_le_bytes(), &member.at.to_le_bytes()]
            .concat();
    }
    extra.extend(&member.central_extra);
    let mut header = b"PK\x01\x02\x2d\x03\x2d\0".to_vec();
    header.extend(member.flags.to_le_bytes());
    header.extend(member.method.to_le_bytes());
    header.extend([0, 0, 0x21, 0]);
    header.extend(member.crc32.to_le_bytes());
    let short = if is_wide { [u32::MAX; 2] } else { [packed as u32, len as u32] };
    short.iter().for_each(|value| header.extend(value.to_le_bytes()));
    header.extend((member.name.len() as u16).to_le_bytes());
    header.extend((extra.len() as u16).to_le_bytes());
    header.extend((member.comment.len() as u16).to_le_bytes());
    header.extend([0; 8]);
    header.extend(if is_wide { u32::MAX } else { member.at as u32 }.to_le_bytes());
    change(&mut header, &CENTRAL, draw);
    [header, member.name.clone(), extra, member.comment.clone()].concat()
}

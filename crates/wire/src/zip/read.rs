//! Reading an archive's directory, and believing none of it.

use super::*;
use crate::shown;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs, Window};
use modelferry_core::limits::Limits;
use std::collections::{HashMap, HashSet};

/// How much is read at once where headers lie close together, and where they do not.
const NEAR_BYTES: u64 = 256 << 10;
const FAR_BYTES: u64 = 1 << 10;
/// How many entries must lie within [`NEAR_BYTES`] to read them at once.
const NEAR_ENTRIES: usize = 16;

/// One entry of an archive, local header and directory found to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as the archive has it: `/` between folders, which end in `/` themselves. Never has a NUL. It may be
    /// absolute or contain `..`: it is a name, and no program of ours makes a path of it.
    pub name: String,
    /// How the bytes are stored.
    pub method: Method,
    /// CRC-32 of the payload, as the directory says. torch can be told to write 0 everywhere, so the caller decides
    /// whether 0 means unknown.
    pub crc32: u32,
    /// Bytes in the archive.
    pub compressed_len: u64,
    /// Bytes of the payload.
    pub len: u64,
    /// Byte of the *file* (not of the window) at which the local header begins.
    pub header_at: u64,
    /// Byte of the *file* at which the entry's bytes begin.
    pub data_at: u64,
    /// Extra fields of the directory, without the zip64 field; see [`extra_field`].
    pub extra: Box<[u8]>,
    /// General purpose bit flags of the directory.
    pub flags: u16,
}

/// An archive's entries.
///
/// What holds for each: name, method, sizes and CRC in its local header are those of the directory (or zeros, where
/// a data descriptor follows the data, as torch writes); its header and bytes lie inside the archive, before the
/// directory, and overlap no other entry's; its name is unique; a deflated entry does not claim to expand beyond
/// [`Limits::inflate_ratio`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The file the archive lies in.
    pub file: FileId,
    /// The entries, in the order of the directory.
    pub entries: Vec<Entry>,
}

impl Directory {
    /// Reads and checks the directory of the archive that fills `window` exactly.
    ///
    /// Every local header is read too, neighbours together. Memory is about 120 bytes an entry, plus its name, plus
    /// its extra field.
    ///
    /// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) where the archive contradicts itself, is
    /// cut short, or has bytes before or after it; [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported)
    /// for encryption, several disks and other methods; [`Limit`](modelferry_core::error::ErrorKind::Limit) for the
    /// directory's bytes ([`Limits::header_bytes`]), entries ([`Limits::tensors`]), name length and expansion.
    pub fn read(inputs: &dyn Inputs, window: Window, limits: &Limits) -> Result<Directory> {
        let name = || inputs.name(window.file);
        let file_len = inputs.len(window.file);
        if window.at.checked_add(window.len).is_none_or(|end| end > file_len) {
            return Err(Error::malformed("an archive ends past the file")
                .file(name())
                .offset(window.at)
                .expected(format_args!("at most {file_len} bytes"))
                .found(format_args!("{} bytes", window.len)));
        }
        let mut reader = Reader { inputs, window, limits, buffer: Vec::new(), buffer_at: 0 };
        reader.directory().map_err(|error| error.file(name()))
    }

    /// The bytes of `entry`, as they lie in the archive.
    pub fn data(&self, entry: &Entry) -> Window {
        Window { file: self.file, at: entry.data_at, len: entry.compressed_len }
    }

    /// Refuses names that differ in nothing but the case of ASCII letters.
    ///
    /// torch takes `DATA.PKL` for `data.pkl`, and scanners were bypassed that way, so readers of torch archives call
    /// this. In npz archives `W` and `w` are two honest arrays.
    pub fn refuse_case_variants(&self) -> Result<()> {
        let mut names = HashMap::with_capacity(self.entries.len());
        for entry in &self.entries {
            if let Some(first) = names.insert(entry.name.to_ascii_lowercase(), &entry.name) {
                return Err(about(&entry.name, "its name differs from another's in case only")
                    .offset(entry.header_at)
                    .found(format_args!("{:?} too", shown(first))));
            }
        }
        Ok(())
    }
}

/// A [`Malformed`](modelferry_core::error::ErrorKind::Malformed) error about one entry.
fn about(name: &str, what: &str) -> Error {
    Error::malformed(format!("entry {:?}: {what}", shown(name)))
}

/// What the end records say, positions relative to the window.
struct End {
    n_entries: u64,
    directory_at: u64,
    directory_end: u64,
}

struct Reader<'a> {
    inputs: &'a dyn Inputs,
    window: Window,
    limits: &'a Limits,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Reader<'_> {
    /// `len` bytes at `at` of the window; where they are not at hand, `ahead` bytes are read if there are as many.
    fn get(&mut self, at: u64, len: u64, ahead: u64) -> Result<&[u8]> {
        let available = self.window.len.saturating_sub(at);
        if len > available {
            return Err(self
                .fault(at, "the archive is cut short")
                .expected(format_args!("{len} bytes"))
                .found(format_args!("{available} bytes")));
        }
        let buffered = self.buffer_at + self.buffer.len() as u64;
        if at < self.buffer_at || at + len > buffered {
            let ahead = len.max(ahead).min(available);
            // `len` is at most that of one header, whose fields have 16 bits each.
            self.buffer.clear();
            self.buffer_at = at;
            self.buffer.resize(ahead as usize, 0);
            self.inputs.read_at(self.window.file, self.window.at + at, &mut self.buffer)?;
        }
        let start = (at - self.buffer_at) as usize;
        Ok(&self.buffer[start..start + len as usize])
    }

    /// An error at byte `at` of the window.
    fn fault(&self, at: u64, what: &'static str) -> Error {
        Error::malformed(what).offset(self.window.at.saturating_add(at))
    }

    fn directory(&mut self) -> Result<Directory> {
        let end = self.end()?;
        let directory_len = end.directory_end - end.directory_at;
        let at = self.window.at + end.directory_at;
        Limits::check("the archive's directory is too long", directory_len, self.limits.header_bytes)
            .and_then(|()| Limits::check("too many archive entries", end.n_entries, self.limits.tensors))
            .map_err(|error| error.offset(at))?;
        if end.n_entries > directory_len / CENTRAL_BYTES {
            return Err(self
                .fault(end.directory_at, "the directory is too short for its entries")
                .expected(format_args!("{} entries", end.n_entries))
                .found(format_args!("{directory_len} bytes")));
        }
        // Bounded by the directory's own length, which lies in the file.
        let mut entries = Vec::with_capacity(end.n_entries as usize);
        let mut at = end.directory_at;
        for _ in 0..end.n_entries {
            let (entry, len) = self.central(at, end.directory_end)?;
            entries.push(entry);
            at += len;
        }
        if at != end.directory_end {
            return Err(self
                .fault(at, "the directory has more than its entries")
                .expected(format_args!("{} entries", end.n_entries))
                .found(format_args!("{} bytes more", end.directory_end - at)));
        }
        self.locals(&mut entries, end.directory_at)?;
        let mut names = HashSet::with_capacity(entries.len());
        if let Some(entry) = entries.iter().find(|entry| !names.insert(entry.name.as_str())) {
            return Err(about(&entry.name, "its name appears twice").offset(entry.header_at));
        }
        Ok(Directory { file: self.window.file, entries })
    }

    /// Finds the end records and makes sure that they agree with each other and with the archive's length.
    fn end(&mut self) -> Result<End> {
        let len = self.window.len;
        let tail_len = len.min(END_BYTES + u64::from(u16::MAX));
        let tail_at = len - tail_len;
        let tail = self.get(tail_at, tail_len, tail_len)?.to_vec();
        let in_tail = self.find_end(&tail, tail_at)?;
        let end_at = tail_at + in_tail as u64;
        let record = &tail[in_tail..];
        let (disk, directory_disk) = (u16_at(record, 4), u16_at(record, 6));
        let (here, total) = (u16_at(record, 8), u16_at(record, 10));
        let (directory_len, directory_at) = (u32_at(record, 12), u32_at(record, 16));

        let several = |at| Err(Error::unsupported("the archive is split over several disks").offset(at));
        let locator = in_tail.checked_sub(LOCATOR_BYTES as usize).map(|start| tail[start..in_tail].to_vec());
        let Some(locator) = locator.filter(|locator| locator.starts_with(&LOCATOR_MAGIC)) else {
            if (disk, directory_disk) != (0, 0) || here != total {
                return several(self.window.at + end_at);
            }
            let directory_end = u64::from(directory_at) + u64::from(directory_len);
            self.check_end(directory_end, end_at, directory_len.into())?;
            return Ok(End {
                n_entries: total.into(),
                directory_at: directory_at.into(),
                directory_end: end_at,
            });
        };

        let locator_at = end_at - LOCATOR_BYTES;
        let (end64_at, n_disks) = (u64_at(&locator, 8), u32_at(&locator, 16));
        if u32_at(&locator, 4) != 0 || n_disks > 1 {
            return several(self.window.at + locator_at);
        }
        if end64_at > locator_at.saturating_sub(END64_BYTES) {
            return Err(self
                .fault(locator_at, "the zip64 locator points past the archive")
                .expected(format_args!("at most {}", locator_at.saturating_sub(END64_BYTES)))
                .found(end64_at));
        }
        let record = self.get(end64_at, END64_BYTES, END64_BYTES)?.to_vec();
        if !record.starts_with(&END64_MAGIC) {
            let nearest = locator_at - END64_BYTES;
            if self.get(nearest, 4, 4)? == END64_MAGIC {
                return Err(self.prepended(nearest - end64_at));
            }
            return Err(self.fault(end64_at, "the zip64 end record is not where its locator says"));
        }
        // Twelve bytes are the magic and this very length.
        let record_end = u64_at(&record, 4).checked_add(end64_at + 12);
        if record_end != Some(locator_at) {
            return Err(self
                .fault(end64_at, "the zip64 end record does not end at its locator")
                .expected(format_args!("{} bytes", locator_at - end64_at - 12))
                .found(format_args!("{} bytes", u64_at(&record, 4))));
        }
        let (here64, total64) = (u64_at(&record, 24), u64_at(&record, 32));
        if (u32_at(&record, 16), u32_at(&record, 20)) != (0, 0) || here64 != total64 {
            return several(self.window.at + end64_at);
        }
        let (directory_len64, directory_at64) = (u64_at(&record, 40), u64_at(&record, 48));
        let pairs = [
            ("disk numbers", u64::from(disk), 0xffff, 0),
            ("disk numbers", directory_disk.into(), 0xffff, 0),
            ("entry counts", here.into(), 0xffff, here64),
            ("entry counts", total.into(), 0xffff, total64),
            ("directory lengths", directory_len.into(), 0xffff_ffff, directory_len64),
            ("directory offsets", directory_at.into(), 0xffff_ffff, directory_at64),
        ];
        for (what, short, unknown, long) in pairs {
            if short != unknown && short != long {
                return Err(Error::malformed(format!("the two end records disagree about {what}"))
                    .offset(self.window.at + end_at)
                    .expected(long)
                    .found(short));
            }
        }
        let Some(directory_end) = directory_at64.checked_add(directory_len64) else {
            return Err(self.fault(end64_at, "the directory runs past the archive").found(directory_len64));
        };
        self.check_end(directory_end, end64_at, directory_len64)?;
        Ok(End { n_entries: total64, directory_at: directory_at64, directory_end: end64_at })
    }

    /// Where in `tail` the end record begins. It must be the last bytes of the archive together with its comment.
    fn find_end(&self, tail: &[u8], tail_at: u64) -> Result<usize> {
        let bare = tail.len().checked_sub(END_BYTES as usize);
        let is_end = |at: &usize| tail[*at..].starts_with(&END_MAGIC);
        if let Some(at) = bare.filter(|at| is_end(at) && u16_at(&tail[*at..], 20) == 0) {
            return Ok(at);
        }
        let found = bare.and_then(|last| (0..=last).rev().find(is_end));
        let Some(at) = found else {
            let begins_well = tail_at > 0 || tail.starts_with(&LOCAL_MAGIC) || tail.starts_with(&END_MAGIC);
            return Err(self.fault(
                self.window.len,
                if begins_well {
                    "the archive has no end record: the file is cut short"
                } else {
                    "this is no zip archive: it has no end record"
                },
            ));
        };
        let comment_len = u64::from(u16_at(&tail[at..], 20));
        let follow = (tail.len() - at) as u64 - END_BYTES;
        if comment_len == follow {
            return Ok(at);
        }
        let what = if comment_len > follow {
            "the archive's comment is cut short"
        } else {
            "bytes follow the end of the archive"
        };
        Err(self
            .fault(tail_at + at as u64 + END_BYTES, what)
            .expected(format_args!("{comment_len} bytes of comment"))
            .found(format_args!("{follow} bytes")))
    }

    /// The directory must end where the first end record begins.
    fn check_end(&mut self, directory_end: u64, records_at: u64, directory_len: u64) -> Result<()> {
        if directory_end == records_at {
            return Ok(());
        }
        if directory_end > records_at {
            return Err(self
                .fault(records_at, "the directory runs past its end record")
                .expected(format_args!("an end at {records_at}"))
                .found(directory_end));
        }
        // The subtraction holds: the directory is shorter than its end, which lies before the record.
        let shifted = records_at - directory_len;
        if directory_len >= 4 && self.get(shifted, 4, 4)? == CENTRAL_MAGIC {
            return Err(self.prepended(records_at - directory_end));
        }
        Err(self
            .fault(directory_end, "bytes lie between the directory and its end record")
            .found(format_args!("{} bytes", records_at - directory_end)))
    }

    fn prepended(&self, n_bytes: u64) -> Error {
        self.fault(0, "the archive does not begin the file").found(format_args!("{n_bytes} bytes before it"))
    }

    /// One header of the directory, and its length.
    fn central(&mut self, at: u64, directory_end: u64) -> Result<(Entry, u64)> {
        let (window_at, limits) = (self.window.at, self.limits);
        let left = directory_end - at;
        if left < CENTRAL_BYTES {
            return Err(self.fault(at, "the directory ends inside an entry"));
        }
        let ahead = left.min(NEAR_BYTES);
        let fixed = self.get(at, CENTRAL_BYTES, ahead)?;
        if !fixed.starts_with(&CENTRAL_MAGIC) {
            return Err(self.fault(at, "no directory entry where one should begin"));
        }
        let name_len = u64::from(u16_at(fixed, 28));
        let extra_len = u64::from(u16_at(fixed, 30));
        let len = CENTRAL_BYTES + name_len + extra_len + u64::from(u16_at(fixed, 32));
        if len > left {
            return Err(self.fault(at, "a directory entry runs past the directory"));
        }
        Limits::check("an entry's name is too long", name_len, limits.name_bytes as u64)
            .map_err(|error| error.offset(window_at + at))?;
        let header = self.get(at, len, ahead)?;
        let name_end = (CENTRAL_BYTES + name_len) as usize;
        let flags = u16_at(header, 8);
        let name = decode_name(&header[CENTRAL_BYTES as usize..name_end], flags)
            .map_err(|error| error.offset(window_at + at))?;
        let place = |error: Error| error.offset(window_at + at);
        if flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED) != 0 {
            return Err(place(Error::unsupported(format!("entry {:?} is encrypted", shown(&name)))));
        }
        if flags & FLAG_PATCH != 0 {
            return Err(place(Error::unsupported(format!(
                "entry {:?} is a patch of another file",
                shown(&name)
            ))));
        }
        let method = Method::from_u16(u16_at(header, 10)).ok_or_else(|| {
            let method = u16_at(header, 10);
            place(Error::unsupported(format!(
                "entry {:?} is stored by a method we do not read",
                shown(&name)
            )))
            .expected("Stored or Deflated")
            .found(format_args!("{} ({method})", CompressionMethod::name_from_u16(method)))
        })?;
        let extra = &header[name_end..name_end + extra_len as usize];
        let mut wide = Zip64::find(extra, &name).map_err(place)?;
        let len_of_entry = wide.u64(u32_at(header, 24)).map_err(place)?;
        let compressed_len = wide.u64(u32_at(header, 20)).map_err(place)?;
        let header_at = wide.u64(u32_at(header, 42)).map_err(place)?;
        let disk = u16_at(header, 34);
        if disk != 0 && !(disk == 0xffff && wide.u32().map_err(place)? == 0) {
            return Err(place(Error::unsupported("the archive is split over several disks")));
        }
        match method {
            Method::Stored if len_of_entry != compressed_len => {
                return Err(place(about(&name, "it is stored, and yet its two lengths differ"))
                    .expected(format_args!("{len_of_entry} bytes"))
                    .found(format_args!("{compressed_len} bytes")));
            }
            Method::Deflated if len_of_entry > compressed_len.saturating_mul(limits.inflate_ratio) => {
                return Err(place(Error::limit(format!(
                    "entry {:?} claims to expand too much",
                    shown(&name)
                )))
                .expected(format_args!("at most {} times", limits.inflate_ratio))
                .found(format_args!("{compressed_len} bytes to {len_of_entry}")));
            }
            _ => {}
        }
        let fields_len: usize = extra_fields(extra).map(|field| field.2.len()).sum();
        if extra.len() - fields_len >= 4 {
            return Err(place(about(&name, "an extra field is longer than what holds it")));
        }
        let kept: Vec<u8> =
            extra_fields(extra).filter(|f| f.0 != ZIP64_ID).flat_map(|f| f.2).copied().collect();
        let entry = Entry {
            name,
            method,
            crc32: u32_at(header, 16),
            compressed_len,
            len: len_of_entry,
            header_at,
            data_at: 0,
            extra: kept.into(),
            flags,
        };
        Ok((entry, len))
    }

    /// Reads every local header in the order of the file, compares it with the directory, makes positions absolute,
    /// and sees to it that nothing overlaps.
    fn locals(&mut self, entries: &mut [Entry], directory_at: u64) -> Result<()> {
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.sort_by_key(|&idx| entries[idx as usize].header_at);
        let first = order.first().map_or(directory_at, |&idx| entries[idx as usize].header_at);
        if first != 0 {
            return Err(self.prepended(first));
        }
        let mut free = 0;
        for (rank, &idx) in order.iter().enumerate() {
            let near = order.get(rank + NEAR_ENTRIES).map(|&idx| entries[idx as usize].header_at);
            let entry = &entries[idx as usize];
            let header_at = entry.header_at;
            if header_at < free {
                // The entry before it in the file reaches into it; there is one, for `free` began as 0.
                let before = &entries[order[rank.saturating_sub(1)] as usize];
                return Err(about(&entry.name, "it overlaps another entry")
                    .offset(self.window.at + header_at)
                    .expected(format_args!("a start after the end of {:?} at {free}", shown(&before.name)))
                    .found(header_at));
            }
            // Subtractions hold because the order is ascending and `free` never passes the directory.
            let ahead =
                near.map_or(
                    FAR_BYTES,
                    |near| {
                        if near - header_at <= NEAR_BYTES { NEAR_BYTES } else { FAR_BYTES }
                    },
                );
            let data_at = self.local(entry, directory_at, ahead)?;
            let end = data_at.checked_add(entry.compressed_len).filter(|&end| end <= directory_at);
            free = end.ok_or_else(|| {
                about(&entry.name, "its data runs into the directory")
                    .offset(self.window.at + data_at)
                    .expected(format_args!("at most {} bytes", directory_at - data_at))
                    .found(format_args!("{} bytes", entry.compressed_len))
            })?;
            let entry = &mut entries[idx as usize];
            entry.header_at = self.window.at + header_at;
            entry.data_at = self.window.at + data_at;
        }
        Ok(())
    }

    /// Compares one local header with its entry; gives where the data begins, not past the directory.
    fn local(&mut self, entry: &Entry, directory_at: u64, ahead: u64) -> Result<u64> {
        let header_at = entry.header_at;
        let place = self.window.at.saturating_add(header_at);
        let fault = |what: &str| about(&entry.name, what).offset(place);
        // Checked, because the offset is the file's word: a header must fit before the directory.
        let fits = |len: u64| header_at.checked_add(len).is_some_and(|end| end <= directory_at);
        if !fits(LOCAL_BYTES) {
            return Err(fault("its local header lies past the archive's data")
                .expected(format_args!("at most {}", directory_at.saturating_sub(LOCAL_BYTES)))
                .found(header_at));
        }
        let ahead = ahead.min(directory_at - header_at);
        let fixed = self.get(header_at, LOCAL_BYTES, ahead)?;
        if !fixed.starts_with(&LOCAL_MAGIC) {
            return Err(fault("no local header where the directory says"));
        }
        let name_len = u64::from(u16_at(fixed, 26));
        let len = LOCAL_BYTES + name_len + u64::from(u16_at(fixed, 28));
        if !fits(len) {
            return Err(fault("its local header runs into the directory"));
        }
        let header = self.get(header_at, len, ahead)?;
        let name_end = (LOCAL_BYTES + name_len) as usize;
        let (flags, method) = (u16_at(header, 6), u16_at(header, 8));
        let local_name = &header[LOCAL_BYTES as usize..name_end];
        if decode_name(local_name, flags).ok().as_deref() != Some(&*entry.name) {
            return Err(fault("its local header has another name")
                .expected(format_args!("{:?}", shown(&entry.name)))
                .found(format_args!("{:?}", shown(&String::from_utf8_lossy(local_name)))));
        }
        if flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED | FLAG_PATCH) != 0 {
            return Err(fault("its local header says it is encrypted, its directory entry does not"));
        }
        let differs = |what: &str, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
            let what = format!("its local header has another {what}");
            Err(about(&entry.name, &what).offset(place).expected(expected).found(found))
        };
        if Method::from_u16(method) != Some(entry.method) {
            let name = CompressionMethod::name_from_u16(method);
            return differs("method", &format_args!("{:?}", entry.method), &name);
        }
        let (crc32, compressed_len, entry_len) = (u32_at(header, 14), u32_at(header, 18), u32_at(header, 22));
        let (compressed_len, entry_len) = if compressed_len == u32::MAX || entry_len == u32::MAX {
            let mut wide =
                Zip64::find(&header[name_end..], &entry.name).map_err(|error| error.offset(place))?;
            // APPNOTE 4.5.3: in a local header the field holds both, the payload's length first.
            let entry_len = wide.u64(entry_len).map_err(|error| error.offset(place))?;
            (wide.u64(compressed_len).map_err(|error| error.offset(place))?, entry_len)
        } else {
            (u64::from(compressed_len), u64::from(entry_len))
        };
        // Where a descriptor follows the data, the header was written before the facts were known.
        let deferred = (flags | entry.flags) & FLAG_DESCRIPTOR != 0;
        let same = |found: u64, expected: u64| found == expected || deferred && found == 0;
        if !same(crc32.into(), entry.crc32.into()) {
            let hex = |crc32: u32| format!("{crc32:08x}");
            return differs("CRC-32", &hex(entry.crc32), &hex(crc32));
        }
        if !same(compressed_len, entry.compressed_len) {
            return differs("compressed length", &entry.compressed_len, &compressed_len);
        }
        if !same(entry_len, entry.len) {
            return differs("length", &entry.len, &entry_len);
        }
        Ok(header_at + len)
    }
}

/// The zip64 field of an entry, read value by value.
struct Zip64<'a> {
    field: Option<&'a [u8]>,
    name: &'a str,
}

impl<'a> Zip64<'a> {
    fn find(extra: &'a [u8], name: &'a str) -> Result<Zip64<'a>> {
        let mut fields = extra_fields(extra).filter(|field| field.0 == ZIP64_ID);
        let field = fields.next().map(|field| field.1);
        match fields.next() {
            Some(_) => Err(about(name, "it has two zip64 fields")),
            None => Ok(Zip64 { field, name }),
        }
    }

    /// The long form of `short`, which is itself unless it is the mark for "look into the zip64 field".
    fn u64(&mut self, short: u32) -> Result<u64> {
        if short != u32::MAX {
            return Ok(short.into());
        }
        let (value, rest) =
            self.field.and_then(|field| field.split_first_chunk()).ok_or_else(|| self.short())?;
        self.field = Some(rest);
        Ok(u64::from_le_bytes(*value))
    }

    fn u32(&mut self) -> Result<u32> {
        let value = self.field.and_then(|field| field.first_chunk()).ok_or_else(|| self.short())?;
        Ok(u32::from_le_bytes(*value))
    }

    fn short(&self) -> Error {
        about(self.name, "its zip64 field is missing or too short")
    }
}

/// Names are UTF-8 where their flag says so and code page 437 elsewhere (APPNOTE appendix D), as Python decodes them.
fn decode_name(bytes: &[u8], flags: u16) -> Result<String> {
    let name = if flags & FLAG_UTF8 != 0 {
        let name = std::str::from_utf8(bytes).map_err(|_| {
            Error::malformed("an entry's name is not UTF-8")
                .found(format_args!("{:?}", shown(&String::from_utf8_lossy(bytes))))
        })?;
        name.to_owned()
    } else {
        let decode = |&byte: &u8| match byte.checked_sub(128) {
            Some(idx) => CP437.chars().nth(idx.into()).unwrap_or(char::REPLACEMENT_CHARACTER),
            None => char::from(byte),
        };
        bytes.iter().map(decode).collect()
    };
    // C and Python programs end the name there, Rust programs do not.
    if name.contains('\0') {
        return Err(
            Error::malformed("an entry's name contains a NUL").found(format_args!("{:?}", shown(&name)))
        );
    }
    Ok(name)
}

/// The upper half of IBM code page 437 (unicode.org, VENDORS/MICSFT/PC/CP437.TXT).
const CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

// The callers below pass slices whose lengths they have checked; the fallback keeps a slip from being a panic.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;

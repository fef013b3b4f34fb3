//! Recognition: an archive with a `data.pkl`, a stream that begins with torch's number, an old tar, a pickle.

use modelferry_core::inputs::Inputs;
use modelferry_core::plugin::Verdict;
use modelferry_hf::set::is_index_of;
use modelferry_wire::zip::LOCAL_MAGIC;

/// Endings that torch's files have; `.bin` and `.ckpt` are other programs' too.
pub(crate) const EXTENSIONS: &[&str] =
    &[".bin.index.json", ".pt.index.json", ".pickle", ".ckpt", ".bin", ".pth", ".pkl", ".pt2", ".pt"];

/// Bytes of the end that are looked through for the name of the pickle, where the first entry of an archive is
/// another.
const TAIL: u64 = 64 << 10;

/// The first bytes of a legacy stream: its magic number, pickled with protocol 2 or later and with protocol 0.
const NUMBER: &[u8] = &[0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
const NUMBER_0: &[u8] = b"L119547037146038801333356L\n.";

/// Members of the tar archives of torch 0.1.
const TAR_MEMBERS: [&str; 4] = ["sys_info", "pickle", "tensors", "storages"];

/// What the first entry of an archive of torch's is called below its root folder: of `torch.save`, `torch.jit.save` and
/// `torch.export.save`.
const FIRST: [&str; 10] = [
    "data.pkl",
    "version",
    "byteorder",
    ".format_version",
    ".data/version",
    "constants.pkl",
    "archive_format",
    "archive_version",
    "data/0",
    "code/",
];

/// Whether the root file is torch's.
pub(crate) fn identify(inputs: &dyn Inputs) -> Verdict {
    // transformers' are `.bin`; ours are what they were named.
    let of_index = [".bin", ".pt", ".pth", ".ckpt"].iter().filter_map(|ending| is_index_of(inputs, ending));
    if let Some(verdict) = of_index.max() {
        return verdict;
    }
    let root = inputs.root();
    let len = inputs.len(root);
    let mut start = vec![0; len.min(1024) as usize];
    let name = inputs.name(root);
    let named = EXTENSIONS.iter().any(|extension| name.ends_with(extension));
    if inputs.read_at(root, 0, &mut start).is_err() {
        return Verdict::No;
    }
    let is_ours = if start.starts_with(&LOCAL_MAGIC) {
        is_archive(inputs, &start)
    } else {
        is_stream(&start) || is_tar(&start) || named && is_pickle(inputs, &start)
    };
    match () {
        () if is_ours => Verdict::Content,
        () if named => Verdict::Name,
        () => Verdict::No,
    }
}

fn is_archive(inputs: &dyn Inputs, start: &[u8]) -> bool {
    let field = |at: usize| {
        start.get(at..at + 2).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])))
    };
    let name = start.get(30..30 + field(26)).unwrap_or_default();
    // Everything of torch's lies in one folder, and nothing of numpy's is called so.
    let below = name.iter().position(|&byte| byte == b'/').map(|at| &name[at + 1..]);
    if below.is_some_and(|below| FIRST.iter().any(|first| below.starts_with(first.as_bytes()))) {
        return true;
    }
    let (root, len) = (inputs.root(), inputs.len(inputs.root()));
    let mut tail = vec![0; len.min(TAIL) as usize];
    let pattern = b"/data.pkl";
    inputs.read_at(root, len - tail.len() as u64, &mut tail).is_ok()
        && tail.windows(pattern.len()).any(|window| window == pattern)
}

fn is_stream(start: &[u8]) -> bool {
    let after_protocol = match start {
        [0x80, 2..=5, rest @ ..] => rest,
        rest => rest,
    };
    // Protocol 4 frames even a number.
    let after_frame = match after_protocol {
        [0x95, rest @ ..] => rest.get(8..).unwrap_or_default(),
        rest => rest,
    };
    after_frame.starts_with(NUMBER) || start.starts_with(NUMBER_0)
}

fn is_tar(start: &[u8]) -> bool {
    let name: Vec<u8> = start.iter().take(100).copied().take_while(|&byte| byte != 0).collect();
    let plain = name.strip_prefix(b"./").unwrap_or(&name);
    start.len() >= 512 && TAR_MEMBERS.iter().any(|member| plain == member.as_bytes())
}

/// A pickle says so little of itself that the file's name must say it too.
fn is_pickle(inputs: &dyn Inputs, start: &[u8]) -> bool {
    let (root, len) = (inputs.root(), inputs.len(inputs.root()));
    let mut last = [0];
    let ends = len > 2 && inputs.read_at(root, len - 1, &mut last).is_ok() && last == *b".";
    ends && matches!(start, [0x80, 2..=5, ..])
}

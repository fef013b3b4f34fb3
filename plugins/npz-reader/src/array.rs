//! An array header and the bytes behind it -> a tensor.

use modelferry_core::expr::{ByteOrder, NodeId, Packing, volume};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Model;
use modelferry_core::options::{OptionKind, OptionSpec, Options};
use modelferry_core::{DType, Error, Result};
use modelferry_wire::npy::{Descr, Header, MemoryOrder};

const FLOAT8: &[&str] = &[
    "f8_e4m3",
    "f8_e5m2",
    "f8_e4m3fnuz",
    "f8_e5m2fnuz",
    "f8_e8m0",
    "f8_e3m4",
    "f8_e4m3ieee",
    "f8_e4m3b11fnuz",
];

/// numpy writes arrays of types it does not know as bytes of which only the width is left.
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "void1",
        kind: OptionKind::Choice(FLOAT8),
        default: "",
        help: "what 1-byte void arrays hold, where the file does not say: a float8 type of ml_dtypes",
    },
    OptionSpec {
        name: "void2",
        kind: OptionKind::Choice(&["bf16", "f16"]),
        default: "",
        help: "what 2-byte void arrays (|V2) hold, where the file does not say",
    },
];

/// Adds the array of `header`, whose file is the byte sequence `bytes`, under the name `name`. `stated` is the type
/// that the archive itself notes for a void array.
pub(crate) fn add_array(
    model: &mut Model,
    name: &str,
    header: &Header,
    bytes: NodeId,
    stated: Option<DType>,
    options: &Options,
) -> Result<()> {
    let (dtype, order) = match header.descr {
        Descr::Scalar(dtype, order) => (dtype, order),
        Descr::Void { bytes, order } => {
            (void_dtype(bytes, order, stated, options)?, order.unwrap_or_default())
        }
    };
    let n_items = volume(&header.shape).ok_or_else(|| Error::malformed("the shape overflows"))?;
    let elements = model.nodes.slice(bytes, header.data_at, header.data_len)?;
    let packing = Packing { bytes: order, ..Packing::default() };
    let mut data = model.nodes.decode(elements, dtype, n_items, packing)?;
    let mut moved = vec![];
    if order == ByteOrder::Big && dtype.swap_width() > 1 {
        moved.push("big-endian");
    }
    if header.order == MemoryOrder::Fortran && header.shape.iter().filter(|&&extent| extent != 1).count() > 1
    {
        data = model.nodes.from_column_major(data, &header.shape)?;
        moved.push("in Fortran order");
    }
    if !moved.is_empty() {
        let detail =
            format!("{} in the source, described as row-major and little-endian", moved.join(" and "));
        model.losses.push(Loss::declared(LossKind::Layout, name, detail));
    }
    model.push(name, dtype, header.shape.clone(), data)?;
    Ok(())
}

/// What a void array holds: what the archive notes, else what ml_dtypes must have meant, else what the user says,
/// else bytes that nobody can read.
fn void_dtype(
    bytes: u16,
    order: Option<ByteOrder>,
    stated: Option<DType>,
    options: &Options,
) -> Result<DType> {
    if let Some(stated) = stated {
        if stated.item_bytes() != u64::from(bytes) || stated.item_elements() != 1 {
            return Err(Error::malformed("the noted type does not fit the array's elements")
                .expected(format_args!("{bytes} bytes"))
                .found(stated));
        }
        return Ok(stated);
    }
    let said = match bytes {
        1 => options.get("void1"),
        2 => options.get("void2"),
        _ => None,
    };
    Ok(match (bytes, order, said.and_then(DType::from_name)) {
        (_, _, Some(dtype)) => dtype,
        // Only ml_dtypes gives void types a byte order, and bf16 is its only one of two bytes.
        (2, Some(_), None) => DType::Bf16,
        _ => DType::Opaque { elements: 1, bytes },
    })
}

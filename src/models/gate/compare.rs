//! Judges a backend's answers by the reference's.
//!
//! Floats may be off by the tolerance, relative to the largest value of their tensor; all else must be equal.

use half::{bf16, f16};

use crate::domain::{Datatype, Tensor, Tolerance, Verdict, VerdictStatus};

/// One input can be right by chance, and two cannot show which of them is the odd one.
pub const INPUTS_MIN: usize = 3;

/// How many tolerances an output must vary over the inputs to prove anything.
/// A backend that ignores its inputs does best with an answer in the middle, which is off by half the spread:
/// ten tolerances, far from what rounding could explain.
const SPREAD_MIN: f64 = 20.0;

/// Compares the outputs of several inputs: one list of tensors per input, in the same order on both sides.
pub fn compare(reference: &[Vec<Tensor>], candidate: &[Vec<Tensor>], tolerance: Tolerance) -> Verdict {
    let inputs = u32::try_from(reference.len()).unwrap_or(u32::MAX);
    let verdict = |status, error, detail| Verdict { status, error, tolerance, inputs, detail };
    if candidate.len() != reference.len() {
        let detail = format!("{} answers for {} inputs", candidate.len(), reference.len());
        return verdict(VerdictStatus::Mismatch, None, detail);
    }
    let mut worst = Worst { error: 0.0, text: String::new() };
    for (at, (wanted, got)) in reference.iter().zip(candidate).enumerate() {
        if let Err(problem) = compare_input(wanted, got, &mut worst) {
            return verdict(VerdictStatus::Mismatch, None, format!("input {}, {problem}", at + 1));
        }
    }
    let limit = format!("error {}, tolerance {:e}", figure(worst.error), tolerance.0);
    if worst.error > tolerance.0 || tolerance.0.is_nan() {
        return verdict(VerdictStatus::Mismatch, Some(worst.error), format!("{} ({limit})", worst.text));
    }
    let doubt = if reference.len() < INPUTS_MIN {
        Some(format!("{} inputs, at least {INPUTS_MIN} are needed", reference.len()))
    } else {
        steady(reference, tolerance)
    };
    match doubt {
        Some(doubt) => verdict(VerdictStatus::Unproven, Some(worst.error), doubt),
        None => {
            verdict(VerdictStatus::Verified, Some(worst.error), format!("{inputs} inputs agree ({limit})"))
        }
    }
}

/// Judges a part of a model, whose outputs need not vary as much as a model's: one that varies less than the tolerance
/// can tell from a constant is judged by a tolerance so much tighter, and what does not vary by what rounding leaves.
pub fn compare_part(reference: &[Vec<Tensor>], candidate: &[Vec<Tensor>], tolerance: Tolerance) -> Verdict {
    let verdict = compare(reference, candidate, tolerance);
    let steady = verdict.status == VerdictStatus::Unproven && reference.len() >= INPUTS_MIN;
    if !steady {
        return verdict;
    }
    let judged = reference[0].iter().filter(|output| output.datatype.is_float()).try_for_each(|output| {
        let spread = spread(&series(reference, &output.name));
        if spread >= SPREAD_MIN * tolerance.0 {
            return Ok(());
        }
        let limit = (spread / SPREAD_MIN).max(rounding(output.datatype));
        let error = apart(&series(reference, &output.name), &series(candidate, &output.name));
        let told = || format!("{}: varies by {} over the inputs", output.name, figure(spread));
        if error > limit { Err(format!("{}, error {}", told(), figure(error))) } else { Ok(()) }
    });
    match judged {
        Err(detail) => Verdict { status: VerdictStatus::Mismatch, detail, ..verdict },
        Ok(()) => {
            let detail = format!("{} inputs agree; what hardly varies agrees the closer", verdict.inputs);
            Verdict { status: VerdictStatus::Verified, detail, ..verdict }
        }
    }
}

/// The largest difference relative to the largest value.
fn apart(wanted: &[&Tensor], got: &[&Tensor]) -> f64 {
    let mut worst = Worst { error: 0.0, text: String::new() };
    let failed = wanted.iter().zip(got).any(|(wanted, got)| compare_floats(wanted, got, &mut worst).is_err());
    if failed { f64::INFINITY } else { worst.error }
}

/// What rounding may leave between two right values, relative to the largest: some units of the type's last place.
fn rounding(datatype: Datatype) -> f64 {
    match datatype {
        Datatype::Bf16 => 1e-2,
        Datatype::Fp16 => 1e-3,
        _ => 1e-6,
    }
}

fn series<'t>(answers: &'t [Vec<Tensor>], name: &str) -> Vec<&'t Tensor> {
    answers.iter().flatten().filter(|tensor| tensor.name == name).collect()
}

/// The first element that is no finite number, and where it is; nothing for tensors that hold none.
pub fn not_finite(output: &Tensor) -> Option<String> {
    if !output.datatype.is_float() || output.check().is_err() {
        return None;
    }
    let values = floats(output);
    let at = values.iter().position(|value| !value.is_finite())?;
    Some(format!("{} at {:?}", figure(values[at]), coordinates(at, &output.shape)))
}

/// The largest relative error so far, and where it is.
struct Worst {
    error: f64,
    text: String,
}

fn compare_input(reference: &[Tensor], candidate: &[Tensor], worst: &mut Worst) -> Result<(), String> {
    if let Some(extra) = candidate.iter().find(|got| !reference.iter().any(|wanted| wanted.name == got.name))
    {
        return Err(format!("{}: the reference has no such output", extra.name));
    }
    for wanted in reference {
        let name = &wanted.name;
        let got = candidate.iter().find(|got| got.name == *name).ok_or_else(|| format!("{name}: missing"))?;
        let same = wanted.datatype == got.datatype && wanted.shape == got.shape;
        if !same {
            let (a, b) = ((got.datatype, &got.shape), (wanted.datatype, &wanted.shape));
            return Err(format!("{name}: {}{:?} for {}{:?}", a.0, a.1, b.0, b.1));
        }
        got.check().map_err(|error| format!("{name}: {error}"))?;
        wanted.check().map_err(|error| format!("{name}: the reference is broken: {error}"))?;
        if wanted.datatype.is_float() {
            compare_floats(wanted, got, worst).map_err(|problem| format!("{name}: {problem}"))?;
        } else if wanted.body != got.body {
            return Err(format!("{name}: {}", first_difference(wanted, got)));
        }
    }
    Ok(())
}

fn compare_floats(wanted: &Tensor, got: &Tensor, worst: &mut Worst) -> Result<(), String> {
    let (reference, candidate) = (floats(wanted), floats(got));
    let position = |at: usize| format!("{:?}", coordinates(at, &wanted.shape));
    let pairs = || reference.iter().copied().zip(candidate.iter().copied()).enumerate();
    if let Some((at, (wanted, got))) = pairs().find(|(_, (wanted, got))| !same_kind(*wanted, *got)) {
        return Err(format!("{} for {} at {}", figure(got), figure(wanted), position(at)));
    }
    let scale = largest(&reference);
    let off = |(wanted, got): (f64, f64)| if wanted.is_finite() { (got - wanted).abs() } else { 0.0 };
    let Some((at, (wanted_at, got_at))) = pairs().max_by(|a, b| off(a.1).total_cmp(&off(b.1))) else {
        return Ok(());
    };
    let distance = off((wanted_at, got_at));
    if distance == 0.0 {
        return Ok(());
    }
    let text = format!("{}: {} for {} at {}", wanted.name, figure(got_at), figure(wanted_at), position(at));
    if scale == 0.0 {
        return Err(format!(
            "{} for 0 at {}, where the reference is zero throughout",
            figure(got_at),
            position(at)
        ));
    }
    let error = distance / scale;
    if error > worst.error {
        *worst = Worst { error, text };
    }
    Ok(())
}

/// Both finite, both NaN, or the same infinity.
fn same_kind(a: f64, b: f64) -> bool {
    let kind = |value: f64| (value.is_nan(), value.is_infinite().then(|| value.is_sign_positive()));
    kind(a) == kind(b)
}

/// Why the reference's answers vary too little to prove anything, if they do.
fn steady(reference: &[Vec<Tensor>], tolerance: Tolerance) -> Option<String> {
    let first = reference.first()?;
    let series = |name: &str| series(reference, name);
    if !first.iter().any(|tensor| tensor.datatype.is_float()) {
        let varies = |output: &Tensor| series(&output.name).iter().any(|tensor| tensor.body != output.body);
        return (!first.iter().any(varies)).then(|| "no output varies over the inputs".to_owned());
    }
    let wanted = SPREAD_MIN * tolerance.0;
    let spreads = first
        .iter()
        .filter(|tensor| tensor.datatype.is_float())
        .map(|output| (output, spread(&series(&output.name))));
    spreads.filter(|(_, spread)| *spread < wanted).min_by(|a, b| a.1.total_cmp(&b.1)).map(
        |(output, spread)| {
            format!(
                "{}: varies by {} of its size over the inputs, {} is needed to tell it from a constant",
                output.name,
                figure(spread),
                figure(wanted)
            )
        },
    )
}

/// How far an element's value moves over the inputs, relative to the largest value of all; the farthest such element.
fn spread(series: &[&Tensor]) -> f64 {
    let Some(first) = series.first() else { return 0.0 };
    if series.iter().any(|tensor| tensor.shape != first.shape) {
        return f64::INFINITY;
    }
    let values: Vec<_> = series.iter().map(|tensor| floats(tensor)).collect();
    let scale = values.iter().map(|values| largest(values)).fold(0.0, f64::max);
    let reach = |at: usize| {
        let finite = values.iter().map(|values| values[at]).filter(|value| value.is_finite());
        let (low, high) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        high - low
    };
    let widest = (0..values[0].len()).map(reach).fold(0.0, f64::max);
    if scale > 0.0 { widest / scale } else { 0.0 }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|value| value.is_finite()).fold(0.0, |largest, value| value.abs().max(largest))
}

/// The elements of a float tensor, whose byte count has been checked.
pub(in crate::models) fn floats(tensor: &Tensor) -> Vec<f64> {
    let bytes = tensor.body.contiguous();
    let halves =
        |decode: fn([u8; 2]) -> f64| bytes.as_chunks::<2>().0.iter().map(|chunk| decode(*chunk)).collect();
    match tensor.datatype {
        Datatype::Fp16 => halves(|chunk| f16::from_le_bytes(chunk).to_f64()),
        Datatype::Bf16 => halves(|chunk| bf16::from_le_bytes(chunk).to_f64()),
        Datatype::Fp32 => {
            bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk).into()).collect()
        }
        Datatype::Fp64 => bytes.as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect(),
        _ => unreachable!("only float tensors come here"),
    }
}

fn first_difference(wanted: &Tensor, got: &Tensor) -> String {
    let (a, b) = (wanted.body.contiguous(), got.body.contiguous());
    let Some(size) = wanted.datatype.size() else { return "other text than the reference".to_owned() };
    let different = a.chunks(size).zip(b.chunks(size)).enumerate().find(|(_, (a, b))| a != b);
    let at = different.map_or(0, |(at, _)| at);
    let number = |bytes: &[u8]| integer(wanted.datatype, &bytes[at * size..(at + 1) * size]);
    format!("{} for {} at {:?}", number(&b), number(&a), coordinates(at, &wanted.shape))
}

fn integer(datatype: Datatype, bytes: &[u8]) -> i128 {
    let signed = matches!(datatype, Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64);
    let negative = signed && bytes.last().is_some_and(|byte| *byte >= 0x80);
    let mut full = [if negative { 0xff } else { 0 }; 16];
    full[..bytes.len()].copy_from_slice(bytes);
    i128::from_le_bytes(full)
}

fn coordinates(mut at: usize, shape: &[u64]) -> Vec<usize> {
    let mut coordinates: Vec<_> = shape
        .iter()
        .rev()
        .map(|size| {
            let size = usize::try_from(*size).unwrap_or(usize::MAX).max(1);
            let here = at % size;
            at /= size;
            here
        })
        .collect();
    coordinates.reverse();
    coordinates
}

/// Three significant digits.
fn figure(value: f64) -> String {
    let rounded = format!("{value:.2e}").parse().unwrap_or(value);
    if rounded == 0.0 || !rounded.is_finite() || (1e-4..1e6).contains(&rounded.abs()) {
        format!("{rounded}")
    } else {
        format!("{rounded:e}")
    }
}

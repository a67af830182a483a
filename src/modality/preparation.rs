//! An image as an image model wants it, by the `preprocessor_config.json` of its kind.

use image::{RgbImage, imageops};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Companions, ModalityError, Task,
    companions::PREPROCESSOR,
    pixels::{self, Filter},
    values,
};
use crate::domain::{Datatype, Dim, Port, Signature, Tensor};

/// A side of what a model sees. The largest vision models see 1,024 pixels.
const SIDE_MAX: u32 = 4096;

#[derive(Debug)]
pub(super) struct Preparation {
    task: Task,
    resize: Option<(Size, Filter)>,
    crop: Option<(u32, u32)>,
    scale: f32,
    mean: [f32; 3],
    deviation: [f32; 3],
    port: Port,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Width and height.
    Exact(u32, u32),
    Shortest(u32),
}

/// The file's fields; of its others none changes a picture.
#[derive(Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "the file's own fields")]
struct Config {
    image_processor_type: Option<String>,
    /// What it was called before.
    feature_extractor_type: Option<String>,
    #[serde(default)]
    do_resize: bool,
    size: Option<Value>,
    resample: Option<u64>,
    #[serde(default)]
    do_center_crop: bool,
    crop_size: Option<Value>,
    crop_pct: Option<Value>,
    #[serde(default)]
    do_pad: bool,
    do_rescale: Option<bool>,
    rescale_factor: Option<f32>,
    #[serde(default)]
    do_normalize: bool,
    image_mean: Option<Channels>,
    image_std: Option<Channels>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Channels {
    All(f32),
    Each([f32; 3]),
}

impl Channels {
    fn each(self) -> [f32; 3] {
        match self {
            Self::All(value) => [value; 3],
            Self::Each(values) => values,
        }
    }
}

impl Preparation {
    pub(super) fn new(
        task: Task,
        companions: &Companions,
        signature: &Signature,
    ) -> Result<Self, ModalityError> {
        let config: Config = companions.wanted_json(PREPROCESSOR, "an image")?;
        let port = port(signature).ok_or_else(|| ModalityError::Signature {
            task,
            problem: "it has not one FP32 or FP16 input of four dimensions".to_owned(),
        })?;
        let wrong =
            |problem: &str| ModalityError::Companion { name: PREPROCESSOR, problem: problem.to_owned() };
        if config.do_pad || config.crop_pct.is_some() {
            return Err(wrong("do_pad and crop_pct are not known here"));
        }
        // CLIP's kind reads a number as the shortest side; the others as both.
        let kind = config.image_processor_type.as_ref().or(config.feature_extractor_type.as_ref());
        let clip = kind.is_some_and(|kind| kind.contains("CLIP"));
        let resize = match (&config.size, config.do_resize) {
            (_, false) => None,
            (None, true) => return Err(wrong("do_resize without a size")),
            (Some(size), true) => {
                let size = if clip { shortest(size) } else { None }.or_else(|| named(size));
                let size =
                    size.ok_or_else(|| wrong("size is no number, height and width, or shortest_edge"))?;
                let filter = Filter::numbered(config.resample.unwrap_or(if clip { 3 } else { 2 }));
                Some((size, filter.ok_or_else(|| wrong("resample is none of Pillow's filters"))?))
            }
        };
        let crop = match (&config.crop_size, config.do_center_crop) {
            (_, false) => None,
            (Some(size), true) => match named(size) {
                Some(Size::Exact(width, height)) => Some((width, height)),
                _ => return Err(wrong("crop_size is no number, and no height and width")),
            },
            (None, true) => return Err(wrong("do_center_crop without a crop_size")),
        };
        let rescale = config.do_rescale.unwrap_or(true);
        let normalised = |channels: Option<Channels>, none: f32| match channels {
            Some(channels) if config.do_normalize => Ok(channels.each()),
            None if config.do_normalize => Err(wrong("do_normalize without image_mean and image_std")),
            _ => Ok([none; 3]),
        };
        let deviation = normalised(config.image_std, 1.0)?;
        if deviation.iter().any(|value| *value <= 0.0) {
            return Err(wrong("image_std is not above 0"));
        }
        let scale = if rescale { config.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
        let mean = normalised(config.image_mean, 0.0)?;
        Ok(Self { task, resize, crop, scale, mean, deviation, port })
    }

    /// The model's input for an image file.
    pub(super) fn pixels(&self, file: &[u8]) -> Result<Tensor, ModalityError> {
        let mut image = pixels::decode(file)?;
        if let Some((size, filter)) = self.resize {
            let (width, height) = size.of(image.dimensions());
            if width.max(height) > SIDE_MAX {
                let what = format!("the image, {width} by {height} pixels as the model wants it,");
                return Err(ModalityError::TooLarge { what, limit: format!("{SIDE_MAX} pixels a side") });
            }
            image = pixels::resize(image, width, height, filter);
        }
        if let Some((width, height)) = self.crop {
            image = centre(&image, width, height);
        }
        self.check_size(&image)?;
        let (width, height) = image.dimensions();
        let mut planes = Vec::with_capacity(image.as_raw().len());
        pixels::planes(&image, self.scale, self.mean, self.deviation, &mut planes);
        let shape = [1, 3, height as usize, width as usize];
        Ok(values::floats(&self.port.name, self.port.datatype, &shape, &planes))
    }

    fn check_size(&self, image: &RgbImage) -> Result<(), ModalityError> {
        let (width, height) = image.dimensions();
        let sides = self.port.shape[2..].iter().zip([height, width]);
        for (dim, side) in sides {
            if let Dim::Fixed(wanted) = dim
                && *wanted != u64::from(side)
            {
                let problem =
                    format!("{PREPROCESSOR} makes {width} by {height} pixels, of which the model takes none");
                return Err(ModalityError::Signature { task: self.task, problem });
            }
        }
        Ok(())
    }

    pub(super) fn task(&self) -> Task {
        self.task
    }
}

/// The input for pixels, when that is all that the model takes.
pub(super) fn port(signature: &Signature) -> Option<Port> {
    match signature.inputs.as_slice() {
        [port] if port.shape.len() == 4 && matches!(port.datatype, Datatype::Fp32 | Datatype::Fp16) => {
            Some(port.clone())
        }
        _ => None,
    }
}

impl Size {
    /// The size that a picture of another size gets; a side that is cut off by a fraction is rounded down.
    fn of(self, (width, height): (u32, u32)) -> (u32, u32) {
        let longer = |short: u32, long: u32, wanted: u32| {
            (u64::from(wanted) * u64::from(long) / u64::from(short.max(1))).clamp(1, u64::from(u32::MAX))
                as u32
        };
        match self {
            Self::Exact(width, height) => (width, height),
            Self::Shortest(wanted) if width <= height => (wanted, longer(width, height, wanted)),
            Self::Shortest(wanted) => (longer(height, width, wanted), wanted),
        }
    }
}

fn side(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|side| u32::try_from(side).ok()).filter(|side| (1..=SIDE_MAX).contains(side))
}

fn shortest(size: &Value) -> Option<Size> {
    side(size).map(Size::Shortest)
}

fn named(size: &Value) -> Option<Size> {
    let field = |name: &str| size.get(name).and_then(side);
    match (side(size), field("height"), field("width"), field("shortest_edge")) {
        (Some(both), ..) => Some(Size::Exact(both, both)),
        (None, Some(height), Some(width), None) => Some(Size::Exact(width, height)),
        // A longest edge beside it bounds what is out of all proportion, and would change nothing else.
        (None, None, None, Some(shortest)) if size.get("longest_edge").is_none() => {
            Some(Size::Shortest(shortest))
        }
        _ => None,
    }
}

/// The middle of a picture; where that is smaller, black around it.
fn centre(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (has_width, has_height) = image.dimensions();
    let mut cut = RgbImage::new(width, height);
    // Odd remainders go where transformers' own code has them: below and right of a cut, above and left of a border.
    let offset = |has: u32, wanted: u32| {
        if has >= wanted { -i64::from((has - wanted) / 2) } else { i64::from((wanted - has).div_ceil(2)) }
    };
    imageops::replace(&mut cut, image, offset(has_width, width), offset(has_height, height));
    cut
}

//! Pictures as pixels: decoded within bounds, upright, in three colours, in the wanted size.

use std::io::Cursor;

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};

use super::ModalityError;

/// Pixels of a picture; a telephone's largest are 50 million.
const PIXELS_MAX: u64 = 50_000_000;

/// What decoding one may allocate: its pixels in four channels of 8 bits, and what a decoder keeps beside them.
const DECODE_BYTES_MAX: u64 = 256 << 20;

/// How a picture is brought to another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Nearest,
    /// As wide as the picture shrinks, as Pillow resizes.
    Box,
    Bilinear,
    Hamming,
    Bicubic,
    Lanczos,
    /// The four nearest pixels alone, as OpenCV resizes by default.
    FourNearest,
}

impl Filter {
    /// As Pillow numbers them in `preprocessor_config.json`.
    pub(super) fn numbered(number: u64) -> Option<Self> {
        [Self::Nearest, Self::Lanczos, Self::Bilinear, Self::Bicubic, Self::Box, Self::Hamming]
            .get(usize::try_from(number).ok()?)
            .copied()
    }

    fn algorithm(self) -> ResizeAlg {
        match self {
            Self::Nearest => ResizeAlg::Nearest,
            Self::Box => ResizeAlg::Convolution(FilterType::Box),
            Self::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
            Self::Hamming => ResizeAlg::Convolution(FilterType::Hamming),
            // Pillow's cubic has the parameter -1/2, which is this one's.
            Self::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
            Self::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
            Self::FourNearest => ResizeAlg::Interpolation(FilterType::Bilinear),
        }
    }
}

/// Decodes a PNG, JPEG or WebP file and turns it as its EXIF says.
pub(super) fn decode(file: &[u8]) -> Result<RgbImage, ModalityError> {
    let wrong = |error: image::ImageError| match error {
        image::ImageError::Limits(_) => ModalityError::TooLarge {
            what: "what decoding the image takes".to_owned(),
            limit: format!("{DECODE_BYTES_MAX} bytes"),
        },
        error => ModalityError::Input(format!("the image cannot be read: {error}")),
    };
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().expect("memory can be read");
    if reader.format().is_none() {
        return Err(ModalityError::Input("the image is none of PNG, JPEG and WebP".to_owned()));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(ModalityError::TooLarge {
            what: format!("an image of {width} by {height} pixels"),
            limit: format!("{PIXELS_MAX} pixels"),
        });
    }
    let orientation = decoder.orientation().map_err(wrong)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    image.apply_orientation(orientation);
    // Transparency is left out, as by Pillow's conversion.
    Ok(image.into_rgb8())
}

/// `width` and `height` are at least 1.
pub(super) fn resize(image: RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image;
    }
    let (from_width, from_height) = image.dimensions();
    let source = Image::from_vec_u8(from_width, from_height, image.into_raw(), PixelType::U8x3);
    let source = source.expect("an RGB image has three bytes a pixel");
    let mut resized = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(filter.algorithm());
    Resizer::new().resize(&source, &mut resized, &options).expect("both are RGB images with pixels");
    RgbImage::from_raw(width, height, resized.into_vec()).expect("an RGB image has three bytes a pixel")
}

/// The planes of one image after another, `(value * scale - mean) / deviation`, appended to `planes`.
pub(super) fn planes(
    image: &RgbImage,
    scale: f32,
    mean: [f32; 3],
    deviation: [f32; 3],
    planes: &mut Vec<f32>,
) {
    for channel in 0..3 {
        let (mean, deviation) = (mean[channel], deviation[channel]);
        let values = image.as_raw().iter().skip(channel).step_by(3);
        planes.extend(values.map(|value| (f32::from(*value) * scale - mean) / deviation));
    }
}

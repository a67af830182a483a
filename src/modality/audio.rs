//! Sound as samples: WAV, FLAC, MP3 and Ogg Vorbis, mixed to one channel, at the rate that a model wants.

use std::io::Cursor;

use bytes::Bytes;
use rubato::{Fft, FixedSync, Resampler as _, audioadapter_buffers::owned::InterleavedOwned};
use symphonia::core::{
    codecs::audio::{AudioDecoder, AudioDecoderOptions},
    errors::Error,
    formats::{FormatOptions, FormatReader, TrackType, probe::Hint},
    io::{MediaSourceStream, MediaSourceStreamOptions},
    meta::MetadataOptions,
};

use super::ModalityError;

/// How long a recording may be: half an hour, of which the samples at 16 kHz take 115 MB.
const SECONDS_MAX: usize = 1800;

/// Rates that recordings have: a telephone's is the least, and studios' end below the other.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;

/// More than any recording of speech has; it bounds what one packet is decoded into.
const CHANNELS_MAX: usize = 32;

/// Frames that are resampled at once.
const CHUNK: usize = 1024;

/// One channel of sound.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sound {
    pub(super) samples: Vec<f32>,
    pub(super) rate: u32,
}

fn unreadable(error: &Error) -> ModalityError {
    ModalityError::Input(format!("the recording cannot be read: {error}"))
}

/// Decodes a file at its own rate.
pub(super) fn decode(file: &Bytes) -> Result<Sound, ModalityError> {
    let source =
        MediaSourceStream::new(Box::new(Cursor::new(file.clone())), MediaSourceStreamOptions::default());
    let probe = symphonia::default::get_probe();
    let probed = probe.probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default());
    let mut format = probed.map_err(|error| match error {
        Error::Unsupported(_) => {
            ModalityError::Input("the recording is none of WAV, FLAC, MP3 and Ogg Vorbis".to_owned())
        }
        error => unreadable(&error),
    })?;
    let none = || ModalityError::Input("the file holds no sound".to_owned());
    let track = format.default_track(TrackType::Audio).ok_or_else(none)?;
    let id = track.id;
    let parameters = track.codec_params.as_ref().and_then(|codec| codec.audio()).ok_or_else(none)?;
    let options = AudioDecoderOptions::default();
    let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &options);
    let mut decoder = decoder.map_err(|error| unreadable(&error))?;
    let sound = read(&mut *format, id, &mut *decoder)?;
    if sound.samples.is_empty() { Err(none()) } else { Ok(sound) }
}

fn read(
    format: &mut dyn FormatReader,
    track: u32,
    decoder: &mut dyn AudioDecoder,
) -> Result<Sound, ModalityError> {
    let (mut samples, mut frames, mut rate) = (Vec::new(), Vec::<f32>::new(), None);
    while let Some(packet) = format.next_packet().map_err(|error| unreadable(&error))? {
        if packet.track_id != track {
            continue;
        }
        let decoded = decoder.decode(&packet).map_err(|error| unreadable(&error))?;
        let (channels, own) = (decoded.spec().channels().count(), decoded.spec().rate());
        if !RATES.contains(&own) || !(1..=CHANNELS_MAX).contains(&channels) {
            let message = format!("{channels} channels at {own} Hz are no recording");
            return Err(ModalityError::Input(message));
        }
        if *rate.get_or_insert(own) != own {
            return Err(ModalityError::Input("the recording changes its rate".to_owned()));
        }
        frames.resize(decoded.samples_interleaved(), 0.0);
        decoded.copy_to_slice_interleaved(&mut frames);
        samples
            .extend(frames.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32));
        if samples.len() > SECONDS_MAX * own as usize {
            let what = "the recording".to_owned();
            return Err(ModalityError::TooLarge { what, limit: format!("{SECONDS_MAX} seconds") });
        }
    }
    Ok(Sound { samples, rate: rate.unwrap_or_default() })
}

/// The same sound at another rate.
pub(super) fn resample(sound: Sound, rate: u32) -> Result<Vec<f32>, ModalityError> {
    if sound.rate == rate {
        return Ok(sound.samples);
    }
    let frames = sound.samples.len();
    let wrong = |problem: String| {
        ModalityError::Input(format!("{} Hz cannot be brought to {rate} Hz: {problem}", sound.rate))
    };
    let resampler = Fft::<f32>::new(sound.rate as usize, rate as usize, CHUNK, 1, FixedSync::Input);
    let mut resampler = resampler.map_err(|error| wrong(error.to_string()))?;
    let input = InterleavedOwned::new_from(sound.samples, 1, frames).expect("one channel of that many");
    let output = resampler.process_all(&input, frames, None).map_err(|error| wrong(error.to_string()))?;
    Ok(output.take_data())
}

//! The rooms that the targets need, from weft's own sources: without the rest they build in a minute, not in ten.

mod archives;
#[path = "../../../src/socket/assembly.rs"]
pub mod assembly;
mod blocks;
#[path = "../../../src/content/mod.rs"]
pub mod content;
#[path = "../../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../../src/socket/frame.rs"]
pub mod frame;
#[path = "../../../src/driver/wire/message.rs"]
pub mod message;
#[path = "../../../src/onnx/mod.rs"]
pub mod onnx;
mod properties;
#[path = "../../../src/protocol/mod.rs"]
pub mod protocol;
pub mod source;
#[path = "../../../src/access/token.rs"]
pub mod token;

pub fn fuzz_archive(input: &[u8]) {
    archives::archive(input);
}

pub fn fuzz_frame(input: &[u8]) {
    properties::frame(input);
}

pub fn fuzz_car(input: &[u8]) {
    blocks::car(input);
}

pub fn fuzz_cut(input: &[u8]) {
    properties::cut(input);
}

pub fn fuzz_dagpb(input: &[u8]) {
    blocks::dagpb(input);
}

pub fn fuzz_control(input: &[u8]) {
    properties::control(input);
}

pub fn fuzz_gguf(input: &[u8]) {
    properties::gguf(input);
}

pub fn fuzz_jwt(input: &[u8]) {
    properties::jwt(input);
}

pub fn fuzz_oip(input: &[u8]) {
    properties::oip(input);
}

pub fn fuzz_onnx(input: &[u8]) {
    properties::onnx(input);
}

pub fn fuzz_precision(input: &[u8]) {
    properties::precision(input);
}

pub fn fuzz_safetensors(input: &[u8]) {
    properties::safetensors(input);
}

pub fn fuzz_torch(input: &[u8]) {
    properties::torch(input);
}

pub fn fuzz_tree(input: &[u8]) {
    blocks::tree(input);
}

pub fn fuzz_websocket(input: &[u8]) {
    properties::websocket(input);
}

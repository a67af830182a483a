//! Products of floats and with weights of few bits.

use weft::domain::Tensor;

use super::nodes::{bytes, floats, longs, microsoft, node, seeded};
use crate::precision::noise;

const NEAR: f32 = 2e-5;

#[tokio::test]
async fn products_are_numpys() {
    let cases: [(&[usize], &[usize]); 9] = [
        (&[3], &[3]),
        (&[17], &[17, 5]),
        (&[4, 17], &[17]),
        (&[1, 1], &[1, 1]),
        (&[17, 129], &[129, 3]),
        (&[2, 3, 17], &[17, 9]),
        (&[2, 1, 5, 7], &[3, 7, 4]),
        (&[3, 1, 7], &[2, 3, 7, 5]),
        (&[1000, 3], &[3, 129]),
    ];
    for (a, b) in cases {
        node("MatMul").seeded(a).seeded(b).agrees(NEAR).await;
        node("MatMul").seeded(a).weight(b).agrees(NEAR).await;
    }
}

#[tokio::test]
async fn gemm_turns_scales_and_adds() {
    let turned = |node: super::nodes::Node| {
        node.int("transA", 1).int("transB", 1).real("alpha", 0.5).real("beta", 2.0)
    };
    for c in [&[9][..], &[5, 1], &[1], &[5, 9]] {
        turned(node("Gemm").seeded(&[17, 5]).weight(&[9, 17]).weight(c)).agrees(NEAR).await;
    }
    node("Gemm").seeded(&[5, 17]).seeded(&[17, 3]).real("alpha", 0.5).agrees(NEAR).await;
    node("Gemm").seeded(&[3, 3]).seeded(&[3, 3]).seeded(&[3]).real("beta", 0.0).agrees(NEAR).await;
    let fused = microsoft("FusedMatMul").seeded(&[2, 5, 3]).seeded(&[2, 7, 5]);
    fused.int("transA", 1).int("transB", 1).real("alpha", 0.3).agrees(NEAR).await;
}

#[tokio::test]
async fn sums_of_einstein_are_one_product_or_refused() {
    let cases: [(&str, &[usize], &[usize]); 6] = [
        ("bij,bjk->bik", &[2, 3, 4], &[2, 4, 5]),
        ("bqhd,bkhd->bhqk", &[2, 3, 4, 5], &[2, 6, 4, 5]),
        ("ij,jk->ki", &[3, 4], &[4, 5]),
        ("bhqk,bkhd->bqhd", &[2, 4, 3, 6], &[2, 6, 4, 5]),
        ("abc, cde -> abde", &[2, 3, 4], &[4, 5, 6]),
        ("i,j->ij", &[3], &[4]),
    ];
    for (equation, a, b) in cases {
        node("Einsum").seeded(a).seeded(b).text("equation", equation).agrees(NEAR).await;
    }
    for equation in ["ii,ij->j", "ij,jk", "ij,kl->il"] {
        node("Einsum").seeded(&[3, 3]).seeded(&[3, 3]).text("equation", equation).refused("one product");
    }
}

/// Numbers of so many bits without an order.
fn numbers(seed: u32, count: usize, bits: usize) -> Vec<u8> {
    let whole = |value: f32| (value.midpoint(1.0) * f32::from(1u16 << bits)) as u8;
    noise(seed, count).into_iter().map(|value| whole(value.min(0.999))).collect()
}

/// Each row from a byte of its own.
fn packed(rows: &[u8], len: usize, bits: usize) -> Vec<u8> {
    let pack =
        |part: &[u8]| part.iter().rev().fold(0u16, |byte, number| byte << bits | u16::from(*number)) as u8;
    rows.chunks(len).flat_map(|row| row.chunks(8 / bits).map(pack)).collect()
}

struct Table {
    bits: usize,
    block: usize,
    k: usize,
    rows: usize,
}

impl Table {
    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    fn weights(&self) -> [Tensor; 2] {
        let Self { bits, block, rows, .. } = *self;
        let blocks = self.blocks();
        let numbers = packed(&numbers(3, rows * blocks * block, bits), block, bits);
        [bytes(&[rows, blocks, block * bits / 8], numbers), seeded(&[rows, blocks], 5)]
    }

    fn zeros(&self) -> Tensor {
        let packed = packed(&numbers(7, self.rows * self.blocks(), self.bits), self.blocks(), self.bits);
        bytes(&[self.rows, packed.len() / self.rows], packed)
    }
}

#[tokio::test]
async fn weights_of_few_bits_have_zeros_that_are_packed_whole_broken_or_in_the_middle() {
    for bits in [2, 4, 8] {
        for (block, k) in [(16, 48), (32, 33), (64, 129), (128, 128), (256, 300)] {
            let table = Table { bits, block, k, rows: 9 };
            let [numbers_, scales] = table.weights();
            let product = || {
                let node = microsoft("MatMulNBits").seeded(&[2, 3, k]);
                let node = node.constant(numbers_.clone()).constant(scales.clone());
                let sizes = [("K", k), ("N", 9), ("bits", bits), ("block_size", block)];
                sizes.into_iter().fold(node, |node, (name, size)| node.int(name, size as i64))
            };
            product().agrees(1e-4).await;
            product().constant(table.zeros()).agrees(1e-4).await;
            product().none().none().weight(&[9]).agrees(1e-4).await;
            if bits == 4 {
                let count = 9 * table.blocks();
                let whole: Vec<f32> = numbers(11, count, bits).into_iter().map(f32::from).collect();
                product().constant(floats(&[9, table.blocks()], &whole)).agrees(1e-4).await;
                let broken: Vec<f32> = noise(13, count).iter().map(|value| 8.0 + 7.0 * value).collect();
                product().constant(floats(&[9, table.blocks()], &broken)).agrees(1e-4).await;
            }
        }
    }
    let table = Table { bits: 4, block: 32, k: 32, rows: 3 };
    let [numbers, scales] = table.weights();
    let node = microsoft("MatMulNBits").seeded(&[3, 32]).constant(numbers).constant(scales);
    let node = node.int("K", 32).int("N", 3).int("block_size", 32);
    node.clone().int("bits", 3).refused("3 bits");
    node.int("bits", 4).none().constant(longs(&[32], &[0; 32])).refused("g_idx");
}

#[tokio::test]
async fn rows_of_few_bits_are_looked_up() {
    for bits in [2, 4, 8] {
        for (block, k) in [(16, 48), (128, 256)] {
            let table = Table { bits, block, k, rows: 11 };
            let [packed, scales] = table.weights();
            let packed = Tensor { shape: vec![11, (k * bits / 8) as u64], ..packed };
            let gather = || {
                let node = microsoft("GatherBlockQuantized").constant(packed.clone());
                let node = node.given(longs(&[2, 3], &[0, 10, 3, 3, 1, 7])).constant(scales.clone());
                let sizes = [("bits", bits as i64), ("block_size", block as i64), ("quantize_axis", 1)];
                sizes.into_iter().fold(node, |node, (name, size)| node.int(name, size))
            };
            gather().agrees(NEAR).await;
            gather().constant(table.zeros()).agrees(NEAR).await;
        }
    }
}

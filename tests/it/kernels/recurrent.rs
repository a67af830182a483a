//! LSTM, GRU and RNN in every direction.

use super::nodes::{Node, node};

const NEAR: f32 = 2e-5;

fn cell(operator: &'static str, gates: usize, steps: usize, direction: &'static str) -> Node {
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    let node = node(operator).opset(14).seeded(&[steps, 3, 5]);
    let node = node.weight(&[directions, gates * 7, 5]).weight(&[directions, gates * 7, 7]);
    node.text("direction", direction).int("hidden_size", 7)
}

#[tokio::test]
async fn cells_go_on_from_where_they_were() {
    for steps in [1, 5] {
        for direction in ["forward", "reverse", "bidirectional"] {
            let directions = if direction == "bidirectional" { 2 } else { 1 };
            for (operator, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
                cell(operator, gates, steps, direction).agrees(NEAR).await;
                let begun = || {
                    let cell = cell(operator, gates, steps, direction).weight(&[directions, 2 * gates * 7]);
                    cell.none().seeded(&[directions, 3, 7])
                };
                match operator {
                    "LSTM" => begun().seeded(&[directions, 3, 7]).outputs(&[true; 3]).agrees(NEAR).await,
                    "GRU" => {
                        begun().outputs(&[true; 2]).agrees(NEAR).await;
                        begun().int("linear_before_reset", 1).outputs(&[true; 2]).agrees(NEAR).await;
                    }
                    _ => begun().outputs(&[true; 2]).agrees(NEAR).await,
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_the_usual_form_is_refused() {
    let peeping = cell("LSTM", 4, 2, "forward").none().none().none().none().weight(&[1, 21]);
    peeping.refused("peepholes");
    cell("LSTM", 4, 2, "forward").real("clip", 3.0).refused("clip");
    cell("GRU", 3, 513, "forward").refused("513 steps");
}

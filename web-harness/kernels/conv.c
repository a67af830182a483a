#include "tile.h"

/* Where the input lies that a place of the output begins at, along both directions. */
struct places {
  i32 at[TILE_COLUMNS][2];
};

static void find_places(struct places *places, const struct window *window, u32 transposed, u32 first, u32 count) {
  for (u32 c = 0; c < count; c++) {
    u32 place[2] = {(first + c) / window->output[1], (first + c) % window->output[1]};
    for (u32 d = 0; d < 2; d++) {
      places->at[c][d] =
        transposed ? (i32)place[d] + window->pads[d] : (i32)(place[d] * window->strides[d]) - window->pads[d];
    }
  }
}

/* The input's place for a step of the kernel; beyond its size where there is none. */
INLINE u32 stepped(const struct window *window, u32 transposed, i32 at, u32 step, u32 d) {
  i32 away = (i32)(step * window->dilations[d]);
  if (!transposed) return (u32)(at + away);
  i32 spread = at - away, stride = (i32)window->strides[d];
  return spread >= 0 && spread % stride == 0 ? (u32)(spread / stride) : 0xffffffffu;
}

/* The elements that the kernel's steps from `k` on meet, packed. */
static void pack(f32 *packed, const struct conv *call, const f32 *input, const struct places *places, u32 k, u32 depth, u32 columns) {
  const struct window *window = &call->window;
  u32 height = window->input[0], width = window->input[1], area = window->kernel[0] * window->kernel[1];
  for (u32 step = 0; step < depth; step++) {
    u32 within = (k + step) % area;
    const f32 *plane = input + (k + step) / area * height * width;
    u32 down = within / window->kernel[1], across = within % window->kernel[1];
    for (u32 c = 0; c < parts(columns, PANEL) * PANEL; c++) {
      f32 value = 0.0f;
      if (c < columns) {
        u32 y = stepped(window, call->transposed, places->at[c][0], down, 0);
        u32 x = stepped(window, call->transposed, places->at[c][1], across, 1);
        if (y < height && x < width) value = plane[y * width + x];
      }
      *packed_at(packed, depth, step, c) = value;
    }
  }
}

KERNEL(conv) {
  struct tile tile;
  struct places places;
  const struct window *window = &call->window;
  u32 rows_all = call->outputs / call->groups, inputs = call->inputs / call->groups;
  u32 products = inputs * window->kernel[0] * window->kernel[1];
  u32 plane_in = window->input[0] * window->input[1], plane = window->output[0] * window->output[1];
  u32 across = parts(plane, TILE_COLUMNS), down = parts(rows_all, TILE_ROWS);
  for (u32 unit = from; unit < to; unit++) {
    u32 column = unit % across * TILE_COLUMNS, row = unit / across % down * TILE_ROWS;
    u32 group = unit / across / down % call->groups, batch = unit / across / down / call->groups;
    u32 columns = least(TILE_COLUMNS, plane - column), rows = least(TILE_ROWS, rows_all - row);
    u32 first = group * rows_all + row;
    const f32 *input = call->input + (batch * call->inputs + group * inputs) * plane_in;
    const f32 *weight = call->weight + first * products;
    find_places(&places, window, call->transposed, column, columns);
    fill(tile.sums, 0.0f, rows * TILE_COLUMNS);
    for (u32 k = 0; k < products; k += TILE_DEPTH) {
      u32 depth = least(TILE_DEPTH, products - k);
      pack(tile.packed, call, input, &places, k, depth, columns);
      tile_multiply(tile.sums, weight + k, products, tile.packed, rows, columns, depth);
    }
    struct tile_out out = {
      .alpha = 1.0f,
      .bias = call->bias ? call->bias + first : 0,
      .bias_row = 1,
      .bias_column = 0,
      .activation = call->activation,
      .output = call->output + (batch * call->outputs + first) * plane + column,
      .row = (i32)plane,
      .column = 1,
    };
    tile_store(&out, tile.sums, TILE_COLUMNS, rows, columns);
  }
  return FAULT_NONE;
}

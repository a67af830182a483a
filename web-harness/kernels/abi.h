/*
 * What the daemon writes and the kernels read: records of calls, in words of 32 bits.
 * A record is its head and then the words of its function's struct; addresses are those of the program's memory, strides
 * count elements, and an address of 0 is something that is not there.
 * src/kernels/wasm writes the same fields in the same order, and a test of it reads this file.
 */

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef short i16;
typedef int i32;
typedef unsigned u32;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;

/* Dimensions that a view can have. */
#define RANK 6

enum function {
  FUNCTION_MAP,
  FUNCTION_GATHER,
  FUNCTION_REDUCE,
  FUNCTION_SOFTMAX,
  FUNCTION_NORM,
  FUNCTION_MATMUL,
  FUNCTION_MATMUL_BITS,
  FUNCTION_GATHER_BITS,
  FUNCTION_ATTENTION,
  FUNCTION_ROTARY,
  FUNCTION_KEEP,
  FUNCTION_CONV,
  FUNCTION_POOL,
  FUNCTION_QUANTISE,
  FUNCTION_REPACK,
};

/* A function's work is units that any thread may do, in any order. */
struct record {
  u32 function;
  u32 words;
  u32 units;
};

/* What makes a step fail. */
enum fault {
  FAULT_NONE,
  /* An index is out of range. */
  FAULT_INDEX,
  /* A record is not as this module reads it: daemon and page are of two versions. */
  FAULT_RECORD,
};

enum unary {
  UNARY_ABS,
  UNARY_NEG,
  UNARY_SIGN,
  UNARY_NOT,
  UNARY_EXP,
  UNARY_LOG,
  UNARY_SQRT,
  UNARY_RECIPROCAL,
  UNARY_FLOOR,
  UNARY_CEIL,
  UNARY_ROUND,
  UNARY_SIN,
  UNARY_COS,
  UNARY_TAN,
  UNARY_ASIN,
  UNARY_ACOS,
  UNARY_ATAN,
  UNARY_SINH,
  UNARY_COSH,
  UNARY_TANH,
  UNARY_ASINH,
  UNARY_ACOSH,
  UNARY_ATANH,
  UNARY_ERF,
  UNARY_SIGMOID,
  UNARY_SOFTPLUS,
  UNARY_GELU,
  UNARY_GELU_TANH,
  UNARY_SILU,
  UNARY_RELU,
  UNARY_IS_NAN,
  UNARY_IS_INF,
};

enum binary {
  BINARY_ADD,
  BINARY_SUB,
  BINARY_MUL,
  BINARY_DIV,
  BINARY_MOD,
  BINARY_FMOD,
  BINARY_POW,
  BINARY_MIN,
  BINARY_MAX,
  BINARY_EQUAL,
  BINARY_LESS,
  BINARY_LESS_OR_EQUAL,
  BINARY_GREATER,
  BINARY_GREATER_OR_EQUAL,
  BINARY_AND,
  BINARY_OR,
  BINARY_XOR,
  BINARY_BIT_AND,
  BINARY_BIT_OR,
  BINARY_BIT_XOR,
};

enum reduce_op {
  REDUCE_SUM,
  REDUCE_MEAN,
  REDUCE_MAX,
  REDUCE_MIN,
  REDUCE_PROD,
  REDUCE_SUM_SQUARE,
  REDUCE_L1,
  REDUCE_L2,
  REDUCE_LOG_SUM_EXP,
  REDUCE_ARG_MAX,
  REDUCE_ARG_MIN,
};

enum norm_kind { NORM_LAYER, NORM_RMS };

enum pool_op { POOL_MAX, POOL_MEAN, POOL_MEAN_OF_ALL };

/* Where a map's instructions of each kind begin: of floats, and of whole numbers. */
enum instruction_op {
  OP_UNARY = 0,
  OP_UNARY_INT = 64,
  OP_BINARY = 128,
  OP_BINARY_INT = 160,
  OP_SELECT = 192,
  OP_FLOAT_TO_INT,
  OP_INT_TO_FLOAT,
  OP_FLOAT_TO_FLAG,
  OP_INT_TO_FLAG,
};

/* An activation that is none. */
#define NO_ACTIVATION 255

/* Elements that a map computes at a time: its units. */
#define MAP_BLOCK 256
/* Blocks that a map holds: inputs, then constants, then what instructions make. */
#define MAP_REGISTERS 64

/* Behind it: `inputs` of map_input, `constants` words, `instructions` of instruction. */
struct map {
  f32 *output;
  u32 rank;
  u32 shape[RANK];
  i32 strides[RANK];
  u32 inputs;
  u32 constants;
  u32 instructions;
  u32 result;
};

struct map_input {
  const f32 *data;
  i32 strides[RANK];
};

/* `places` are the registers of the result and of what it is made of, a byte each. */
struct instruction {
  u32 op;
  u32 places;
};

/* Units: outer times count. */
struct gather {
  const f32 *data;
  const i32 *indices;
  f32 *output;
  u32 axis;
  u32 count;
  u32 inner;
};

/* Columns of a reduction or a softmax that are done at a time. */
#define LANE_BLOCK 64

/* Units: outer times blocks of inner; so below. */
struct reduce {
  u32 op;
  u32 integers;
  const f32 *input;
  f32 *output;
  u32 len;
  u32 inner;
};

struct softmax {
  u32 log;
  const f32 *input;
  f32 *output;
  u32 len;
  u32 inner;
};

/* Units: rows. */
struct norm {
  u32 kind;
  const f32 *input;
  const f32 *skip;
  const f32 *scale;
  const f32 *bias;
  f32 *output;
  f32 *sum;
  u32 len;
  f32 epsilon;
};

/* Rows and columns of an output that are computed at a time, and how many products of each. */
#define TILE_ROWS 64
#define TILE_COLUMNS 64
#define TILE_DEPTH 128

/* Units: batch, blocks of TILE_ROWS, blocks of `width` columns. A view's last two strides are those of the matrix. */
struct matmul {
  u32 rank;
  u32 shape[RANK];
  u32 m;
  u32 k;
  u32 n;
  u32 width;
  const f32 *a;
  i32 a_strides[RANK + 2];
  const f32 *b;
  i32 b_strides[RANK + 2];
  const f32 *bias;
  i32 bias_strides[RANK + 2];
  f32 *output;
  i32 output_strides[RANK + 2];
  f32 alpha;
  u32 activation;
};

/* Rows of weights that are multiplied at a time: a unit. */
#define BITS_ROWS 4

/* `numbers` are of 2, 4 or 8 bits, `zeros` a byte per block, or all `zero`; `lanes`, `steps` and `sums` are what
 * `quantise` made of the other side. */
struct matmul_bits {
  const i16 *lanes;
  const f32 *steps;
  const f32 *sums;
  const u8 *numbers;
  const f32 *scales;
  const u8 *zeros;
  u32 zero;
  const f32 *bias;
  f32 *output;
  u32 m;
  u32 n;
  u32 blocks;
  u32 block;
  u32 bits;
  u32 activation;
};

/* Units: count. */
struct gather_bits {
  const u8 *numbers;
  const f32 *scales;
  const u8 *zeros;
  u32 zero;
  const i32 *indices;
  f32 *output;
  u32 rows;
  u32 k;
  u32 blocks;
  u32 block;
  u32 bits;
};

/* Queries that are answered at a time: a unit, for each of batch and heads. */
#define ATTENTION_QUERIES 4
#define ATTENTION_SIZE 1024

struct attention {
  u32 heads;
  u32 key_heads;
  u32 queries;
  u32 keys;
  u32 size;
  u32 value_size;
  const f32 *q;
  i32 q_strides[4];
  const f32 *k;
  i32 k_strides[4];
  const f32 *v;
  i32 v_strides[4];
  const f32 *mask;
  i32 mask_strides[4];
  const i32 *lengths;
  u32 causal;
  u32 window;
  f32 scale;
  f32 softcap;
  f32 *output;
  i32 output_strides[4];
};

/* Units: batch, heads, rows. */
struct rotary {
  u32 heads;
  u32 rows;
  u32 size;
  u32 turned;
  const f32 *input;
  i32 input_strides[4];
  f32 *output;
  i32 output_strides[4];
  const f32 *cos;
  const f32 *sin;
  u32 positions_max;
  const i32 *positions;
  u32 positions_len;
  u32 interleaved;
};

/* Into `room` rows of each of batch and heads, from the position on. Units: batch, heads, rows. */
struct keep {
  u32 heads;
  u32 rows;
  u32 size;
  const f32 *input;
  i32 input_strides[4];
  const i32 *position;
  u32 rows_max;
  f32 *output;
  u32 room;
};

/* Along height and width. */
struct window {
  u32 input[2];
  u32 output[2];
  u32 kernel[2];
  u32 strides[2];
  u32 dilations[2];
  i32 pads[2];
};

/* Weights are `[outputs, inputs / groups, kernel…]`, transposed or not. Units: batch, groups, blocks of TILE_ROWS of a
 * group's outputs, blocks of TILE_COLUMNS places. */
struct conv {
  const f32 *input;
  const f32 *weight;
  const f32 *bias;
  f32 *output;
  u32 inputs;
  u32 outputs;
  u32 groups;
  struct window window;
  u32 transposed;
  u32 activation;
};

/* Units: planes. */
struct pool {
  u32 op;
  const f32 *input;
  f32 *output;
  struct window window;
};

/* Rounds each block of a row to 16 bits. `lanes` are in the order in which a vector of numbers of so many bits is taken
 * apart, `steps` a vector for each vector of numbers, or for each block where it takes several, and `sums` those of the
 * rounded elements of each block. Units: rows. */
struct quantise {
  const f32 *input;
  i16 *lanes;
  f32 *steps;
  f32 *sums;
  u32 k;
  u32 blocks;
  u32 block;
  u32 bits;
};

/* Numbers of a row's blocks with so many bits, ternary ones with 1 here, with `to` bits; `count` of each block. Units:
 * rows. */
struct repack {
  const u8 *numbers;
  u8 *output;
  u32 row_bytes;
  u32 output_row_bytes;
  u32 blocks;
  u32 block;
  u32 count;
  u32 bits;
  u32 to;
};

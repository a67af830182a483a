#include "scalar.h"

#define PI 3.14159265358979323846
#define LN2_HIGH 0.693147180369123816490
#define LN2_LOW 1.90821492927058770002e-10

static f64 from_bits(u64 bits) {
  union { u64 bits; f64 value; } both = {.bits = bits};
  return both.value;
}

static u64 to_bits(f64 value) {
  union { f64 value; u64 bits; } both = {.value = value};
  return both.bits;
}

/* Taylor's series of sinh(r) / r by r², odd terms of e^r or sin(r) with their signs. */
static f64 odd_series(f64 square, f64 sign) {
  f64 term = 1.0, sum = 1.0;
  for (i32 n = 2; n < 20; n += 2) {
    term *= sign * square / (f64)(n * (n + 1));
    sum += term;
  }
  return sum;
}

static f64 even_series(f64 square, f64 sign) {
  f64 term = 1.0, sum = 1.0;
  for (i32 n = 1; n < 20; n += 2) {
    term *= sign * square / (f64)(n * (n + 1));
    sum += term;
  }
  return sum;
}

f64 exp_of(f64 x) {
  if (x != x) return x;
  if (x > 709.0) return __builtin_inf();
  if (x < -708.0) return 0.0;
  f64 n = __builtin_rint(x * 1.4426950408889634074);
  f64 r = x - n * LN2_HIGH - n * LN2_LOW;
  f64 square = r * r;
  f64 grown = even_series(square, 1.0) + r * odd_series(square, 1.0);
  return grown * from_bits((u64)((i32)n + 1023) << 52);
}

f64 log_of(f64 x) {
  if (!(x >= 0.0)) return __builtin_nan("");
  if (x == 0.0) return -__builtin_inf();
  if (x == __builtin_inf()) return x;
  u64 bits = to_bits(x);
  i32 exponent = (i32)(bits >> 52) - 1023;
  f64 m = from_bits((bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.41421356237309504880) {
    m *= 0.5;
    exponent += 1;
  }
  /* 2 · atanh((m - 1) / (m + 1)), whose argument is at most 0.172. */
  f64 s = (m - 1.0) / (m + 1.0), square = s * s, power = s, sum = 0.0;
  for (i32 n = 1; n < 24; n += 2) {
    sum += power / (f64)n;
    power *= square;
  }
  return 2.0 * sum + (f64)exponent * LN2_LOW + (f64)exponent * LN2_HIGH;
}

/* Of an angle: the nearest multiple of a quarter turn, as its number, and what is left. */
static f64 turned(f64 x, u32 *quarter) {
  f64 n = __builtin_rint(x * (2.0 / PI));
  /* A quarter turn in three parts, of which the products with n are exact as long as it is below 2^20. */
  f64 left = x - n * 1.57079632673412561417e+00;
  left -= n * 6.07710050630396597660e-11;
  left -= n * 2.02226624879595063154e-21;
  *quarter = (u32)(long long)n & 3;
  return left;
}

static f64 wave(f64 x, u32 ahead) {
  if (!(x > -1e15 && x < 1e15)) return __builtin_nan("");
  u32 quarter;
  f64 r = turned(x, &quarter), square = r * r;
  quarter = (quarter + ahead) & 3;
  f64 value = quarter & 1 ? even_series(square, -1.0) : r * odd_series(square, -1.0);
  return quarter & 2 ? -value : value;
}

f64 sine(f64 x) { return wave(x, 0); }
f64 cosine(f64 x) { return wave(x, 1); }

f64 arc_tangent(f64 x) {
  if (x != x) return x;
  f64 a = __builtin_fabs(x);
  f64 turn = 0.0;
  f64 reduced = a;
  if (a > 1.0) {
    turn = PI / 2;
    reduced = -1.0 / a;
  }
  /* Half of the angle, twice: then the series needs few terms. */
  reduced = reduced / (1.0 + __builtin_sqrt(1.0 + reduced * reduced));
  reduced = reduced / (1.0 + __builtin_sqrt(1.0 + reduced * reduced));
  f64 square = reduced * reduced, power = reduced, sum = 0.0;
  for (i32 n = 1; n < 26; n += 2) {
    sum += (n & 2 ? -power : power) / (f64)n;
    power *= square;
  }
  f64 angle = turn + 4.0 * sum;
  return x < 0.0 ? -angle : angle;
}

f64 arc_sine(f64 x) {
  if (!(x >= -1.0 && x <= 1.0)) return __builtin_nan("");
  if (x == 1.0) return PI / 2;
  if (x == -1.0) return -PI / 2;
  return arc_tangent(x / __builtin_sqrt((1.0 - x) * (1.0 + x)));
}

f64 hyperbolic_sine(f64 x) {
  if (__builtin_fabs(x) < 1.0) return x * odd_series(x * x, 1.0);
  return (exp_of(x) - exp_of(-x)) / 2;
}

f64 hyperbolic_area_sine(f64 x) {
  f64 a = __builtin_fabs(x);
  f64 area = a < 1e-4 ? a - a * a * a / 6 : log_of(a + __builtin_sqrt(a * a + 1.0));
  return x < 0.0 ? -area : area;
}

f64 hyperbolic_area_tangent(f64 x) {
  if (__builtin_fabs(x) < 1e-4) return x + x * x * x / 3;
  return log_of((1.0 + x) / (1.0 - x)) / 2;
}

f64 power(f64 x, f64 y) {
  if (y == 0.0 || x == 1.0) return 1.0;
  if (y == 1.0) return x;
  if (y == 2.0) return x * x;
  if (y == 3.0) return x * x * x;
  if (y == -1.0) return 1.0 / x;
  f64 whole = __builtin_trunc(y);
  i32 odd = whole == y && whole - 2.0 * __builtin_trunc(whole / 2.0) != 0.0;
  if (x < 0.0 && whole != y && x != -__builtin_inf()) return __builtin_nan("");
  f64 a = __builtin_fabs(x);
  if (y == 0.5) return __builtin_sqrt(a);
  f64 value = a == 1.0 ? 1.0 : exp_of(y * log_of(a));
  return x < 0.0 && odd ? -value : value;
}

f64 remainder_of(f64 x, f64 y) {
  if (y == __builtin_inf() || y == -__builtin_inf()) return x - x == 0.0 ? x : __builtin_nan("");
  f64 left = x - __builtin_trunc(x / y) * y;
  /* The quotient may have been rounded across a whole number. */
  f64 size = __builtin_fabs(y);
  if (x >= 0.0 && left < 0.0) left += size;
  if (x < 0.0 && left > 0.0) left -= size;
  return left;
}

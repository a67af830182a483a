/* Functions that are rare enough to be computed one by one, in 64 bits. */

#pragma once

#include "abi.h"

f64 exp_of(f64 x);
f64 log_of(f64 x);
f64 sine(f64 x);
f64 cosine(f64 x);
f64 arc_tangent(f64 x);
f64 arc_sine(f64 x);
f64 hyperbolic_sine(f64 x);
f64 hyperbolic_area_sine(f64 x);
f64 hyperbolic_area_tangent(f64 x);
f64 power(f64 x, f64 y);
f64 remainder_of(f64 x, f64 y);

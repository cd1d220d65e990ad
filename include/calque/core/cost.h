#pragma once

namespace calque {

// The cost of an operation, counted from the shapes it is given. The header that declares an
// operation says so beside it, with the limits that its source works by; the forecast adds up, and
// what a unit takes on a machine is its table (src/forecast/time.cpp).
struct Cost {
  double flops = 0;         // a multiply-add is two
  double double_flops = 0;  // the same in double precision
  double exponentials = 0;
  double elements = 0;          // numbers that are read, changed or compared one by one
  double searched_weights = 0;  // weights whose group has its scale searched for

  constexpr Cost& operator+=(const Cost& other) {
    flops += other.flops;
    double_flops += other.double_flops;
    exponentials += other.exponentials;
    elements += other.elements;
    searched_weights += other.searched_weights;
    return *this;
  }
  friend constexpr Cost operator+(Cost a, const Cost& b) { return a += b; }
  friend constexpr Cost operator*(double times, const Cost& cost) {
    return {times * cost.flops, times * cost.double_flops, times * cost.exponentials,
            times * cost.elements, times * cost.searched_weights};
  }
};

}  // namespace calque

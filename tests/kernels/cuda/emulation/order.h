#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace calque::emulation {

// Chooses the warp and lane that runs first.
class Order {
 public:
  // CALQUE_EMULATION_ORDER: see machine.h.
  static Order from_environment() {
    const char* const name = std::getenv("CALQUE_EMULATION_ORDER");
    Order order;
    if (name == nullptr || std::strcmp(name, "forward") == 0) return order;
    order.reverse_ = std::strcmp(name, "reverse") == 0;
    if (!order.reverse_) order.seed_ = std::strtoull(name, nullptr, 10) * 2654435761u + 1;
    return order;
  }
  // The i-th of `count` to get its turn in a round; random orders leave some out of a round.
  unsigned pick(unsigned i, unsigned count) {
    if (seed_ != 0) return static_cast<unsigned>(next() % count);
    return reverse_ ? count - 1 - i : i;
  }
  bool is_random() const { return seed_ != 0; }

 private:
  std::uint64_t next() {  // xorshift64
    seed_ ^= seed_ << 13;
    seed_ ^= seed_ >> 7;
    return seed_ ^= seed_ << 17;
  }
  bool reverse_ = false;
  std::uint64_t seed_ = 0;
};

}  // namespace calque::emulation

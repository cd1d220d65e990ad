#pragma once

#include <cstddef>

// Arrays of allocate_array (memory.h) of at least kSmallestKeptArray are not given back to the
// system when they are freed, but kept for the next of about their size, up to kKeptArrayBytes in
// all: pages that come from the system anew have to be cleared first.
namespace calque {

inline constexpr std::size_t kSmallestKeptArray = std::size_t{1} << 19;
inline constexpr std::size_t kKeptArrayBytes = std::size_t{32} << 20;

}  // namespace calque

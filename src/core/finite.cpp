#include "calque/core/finite.h"

#include <cstring>

namespace calque {
namespace {

template <typename T>
T element(std::span<const std::byte> bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
  return value;
}

// Goes through a tensor in pieces, so that the loop that vectorizes has no way out and a fault is
// found soon after it is met.
template <typename T>
std::optional<std::size_t> first_of(std::span<const std::byte> bytes) {
  constexpr std::size_t kPiece = 4096;
  const std::size_t count = bytes.size() / sizeof(T);
  for (std::size_t first = 0; first < count; first += kPiece) {
    const std::size_t end = first + kPiece < count ? first + kPiece : count;
    bool finite = true;
    for (std::size_t i = first; i < end; ++i) finite &= is_finite(element<T>(bytes, i));
    if (finite) continue;
    for (std::size_t i = first; i < end; ++i)
      if (!is_finite(element<T>(bytes, i))) return i;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::size_t> first_nonfinite(std::span<const std::byte> bytes, DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return first_of<double>(bytes);
    case DType::kF32:
      return first_of<float>(bytes);
    case DType::kF16:
      return first_of<Half>(bytes);
    case DType::kBF16:
      return first_of<BFloat16>(bytes);
    default:
      return std::nullopt;
  }
}

}  // namespace calque

#include "calque/model/tied_head.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace calque::model {
namespace {

constexpr std::size_t kElementsAtATime = std::size_t{1} << 22;

std::vector<float> values_at(const TensorBytes& stored, DType dtype, std::size_t first,
                             std::size_t count) {
  std::vector<float> values(count);
  convert_to_float(stored.get().data() + first * size_of(dtype), dtype, count, values.data());
  return values;
}

// Compares values, so that tensors of different dtypes may be equal.
bool differ(const ModelSource& source, const SourceTensor& a, const SourceTensor& b) {
  if (a.shape != b.shape) return true;
  const TensorBytes a_bytes = source.bytes(a.name);
  const TensorBytes b_bytes = source.bytes(b.name);
  const auto elements = static_cast<std::size_t>(a.element_count());
  for (std::size_t first = 0; first < elements; first += kElementsAtATime) {
    const std::size_t count = std::min(kElementsAtATime, elements - first);
    const std::size_t width = size_of(a.dtype);
    const bool same =
        a.dtype == b.dtype && std::memcmp(a_bytes.get().data() + first * width,
                                          b_bytes.get().data() + first * width, count * width) == 0;
    if (!same &&
        values_at(a_bytes, a.dtype, first, count) != values_at(b_bytes, b.dtype, first, count))
      return true;
    a_bytes.drop(first * width, count * width);
    b_bytes.drop(first * size_of(b.dtype), count * size_of(b.dtype));
  }
  return false;
}

}  // namespace

void settle_tied_head(const ModelSource& source, ModelConfig& config) {
  if (!config.tie_word_embeddings) return;
  const SourceTensor* head = source.find(config.names.head + ".weight");
  const SourceTensor* embedding = source.find(config.names.model + ".embed_tokens.weight");
  if (head == nullptr || embedding == nullptr || !is_floating(head->dtype) ||
      !is_floating(embedding->dtype) || !differ(source, *embedding, *head))
    return;
  config.tie_word_embeddings = false;
  config.remarks.emplace_back(
      "config.json ties the output head to the embedding (tie_word_embeddings: true), but the "
      "stored lm_head.weight differs from it: the stored head is used, as in transformers");
}

}  // namespace calque::model

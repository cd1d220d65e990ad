#include "forward/cpu/token_ids.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque::forward {

void check_ids(MatrixView<const std::int32_t> ids_BS, std::span<const Index> lengths_B,
               Index vocabulary) {
  if (static_cast<Index>(lengths_B.size()) != ids_BS.rows())
    throw Error(ErrorKind::kInternal, "",
                fmt::format("{} lengths for {} sequences", lengths_B.size(), ids_BS.rows()));
  for (Index b = 0; b < ids_BS.rows(); ++b) {
    const Index length = lengths_B[static_cast<std::size_t>(b)];
    if (length < 0 || length > ids_BS.cols())
      throw Error(ErrorKind::kInternal, "",
                  fmt::format("length {} of sequence {} is not within the {} ids of a row", length,
                              b, ids_BS.cols()));
    for (Index s = 0; s < length; ++s)
      if (ids_BS(b, s) < 0 || ids_BS(b, s) >= vocabulary)
        throw Error(ErrorKind::kInput, "E167",
                    fmt::format("token id {} (sequence {}, position {}) is outside the model's "
                                "vocabulary of {}; was the text tokenized for another model?",
                                ids_BS(b, s), b, s, vocabulary));
  }
}

}  // namespace calque::forward

#include "calib/imatrix_chunks.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/io/text_lines.h"

namespace calque::calib {
namespace {

// What llama.cpp reads: the file less one newline at its end, with the tokens around it.
text::TokenIds ids_of(const std::filesystem::path& path, const text::Tokenizer& tokenizer,
                      bool parse_special) {
  std::string content = io::read_text(path);
  if (content.ends_with('\n')) content.pop_back();
  text::TokenIds ids = tokenizer.prefix();
  const text::TokenIds inside = tokenizer.encode(content, parse_special);
  const text::TokenIds suffix = tokenizer.suffix();
  ids.insert(ids.end(), inside.begin(), inside.end());
  ids.insert(ids.end(), suffix.begin(), suffix.end());
  return ids;
}

// How many chunks the text gives.
Index chunk_count(const std::filesystem::path& path, Index tokens, const ImatrixRequest& request) {
  const Index available = tokens / request.chunk_size;
  if (available == 0)
    throw Error(ErrorKind::kInput, "E201",
                fmt::format("{}: gives {} tokens, not one chunk of {}; use a longer text, or a "
                            "smaller chunk size",
                            path.string(), tokens, request.chunk_size));
  return request.chunks > 0 ? std::min(request.chunks, available) : available;
}

}  // namespace

text::TokenBlocks imatrix_chunks(const ImatrixRequest& request, const text::Tokenizer& tokenizer) {
  text::TokenIds kept;
  for (const std::filesystem::path& path : request.texts) {
    const text::TokenIds ids = ids_of(path, tokenizer, request.parse_special);
    const Index count = chunk_count(path, static_cast<Index>(ids.size()), request);
    kept.insert(kept.end(), ids.begin(), ids.begin() + count * request.chunk_size);
  }
  const Index rows = static_cast<Index>(kept.size()) / request.chunk_size;
  const MatrixView<const std::int32_t> kept_BS(kept.data(), rows, request.chunk_size);
  text::TokenBlocks blocks;
  blocks.ids_BS = Matrix<std::int32_t>::copy_of(kept_BS);
  blocks.lengths_B.assign(static_cast<std::size_t>(rows), request.chunk_size);
  const text::TokenIds prefix = tokenizer.prefix();
  if (!prefix.empty())
    for (Index b = 0; b < rows; ++b) blocks.ids_BS(b, 0) = prefix.front();
  return blocks;
}

}  // namespace calque::calib

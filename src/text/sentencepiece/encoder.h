#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

// The SentencePiece library lives in a separate plug-in: Debian's build exports the protocol-buffer
// symbols it was linked with, which would otherwise replace those of LibTorch's newer library and
// crash it.
namespace calque::text {

class SentencePieceEncoder {
 public:
  virtual ~SentencePieceEncoder() = default;
  virtual std::vector<int> encode(std::string_view text) const = 0;  // thread-safe
};

// The type of the function exported by libcalque_sentencepiece.so under this name. `serialized`
// holds the model file's bytes. The caller owns the result. On failure returns null and sets
// `failure`.
using MakeSentencePieceEncoder = SentencePieceEncoder* (*)(const std::string& serialized,
                                                           std::string& failure);
inline constexpr const char* kMakeSentencePieceEncoder = "calque_make_sentencepiece_encoder";

// Loads the plug-in once. Error(kConfig) if it cannot be loaded, Error(kInput) if `serialized` is
// not a model.
std::unique_ptr<SentencePieceEncoder> make_sentencepiece_encoder(const std::string& serialized);

}  // namespace calque::text

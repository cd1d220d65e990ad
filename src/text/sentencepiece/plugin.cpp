#include <sentencepiece_processor.h>

#include <exception>
#include <memory>

#include "text/sentencepiece/encoder.h"

namespace calque::text {
namespace {

class LibraryEncoder final : public SentencePieceEncoder {
 public:
  // Returns an empty string on success, else the library's reason. Its tables throw for pieces that
  // they cannot hold, such as an empty one.
  std::string load(const std::string& serialized) try {
    const auto status = processor_.LoadFromSerializedProto(serialized);
    return status.ok() ? "" : status.error_message();
  } catch (const std::exception& error) {
    return error.what();
  }
  std::vector<int> encode(std::string_view text) const override {
    return processor_.EncodeAsIds(text);
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace
}  // namespace calque::text

extern "C" calque::text::SentencePieceEncoder* calque_make_sentencepiece_encoder(
    const std::string& serialized, std::string& failure) {
  auto encoder = std::make_unique<calque::text::LibraryEncoder>();
  failure = encoder->load(serialized);
  return failure.empty() ? encoder.release() : nullptr;
}

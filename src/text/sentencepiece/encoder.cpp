#include "text/sentencepiece/encoder.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/core/plugin.h"

namespace calque::text {
namespace {

constexpr const char* kPluginFile = "libcalque_sentencepiece.so";

const Plugin& plugin() {
  static const Plugin loaded = load_plugin(kPluginFile);
  return loaded;
}

}  // namespace

std::unique_ptr<SentencePieceEncoder> make_sentencepiece_encoder(const std::string& serialized) {
  const auto make =
      reinterpret_cast<MakeSentencePieceEncoder>(plugin().symbol(kMakeSentencePieceEncoder));
  if (make == nullptr)
    throw Error(ErrorKind::kConfig, "E168",
                fmt::format("cannot load SentencePiece: {}. Keep {} beside the program or in "
                            "../lib/calque, or use a model with a tokenizer.json",
                            plugin().failure, kPluginFile));
  std::string failure;
  std::unique_ptr<SentencePieceEncoder> encoder(make(serialized, failure));
  if (!encoder)
    throw Error(ErrorKind::kInput, "E213", fmt::format("not a SentencePiece model: {}", failure));
  return encoder;
}

}  // namespace calque::text

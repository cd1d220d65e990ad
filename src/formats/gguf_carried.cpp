#include "formats/gguf_carried.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace calque::formats {
namespace {

constexpr std::string_view kPre = "tokenizer.ggml.pre";

// Written anew: they speak of the file, not of the model.
constexpr std::array<std::string_view, 6> kOfTheFile = {
    "general.architecture",         "general.type",      "general.file_type",
    "general.quantization_version", "general.alignment", "general.quantized_by"};

bool is_local_path(const std::string& text) {
  const bool drive = text.size() > 2 && text[1] == ':' && (text[2] == '\\' || text[2] == '/');
  return text.starts_with('/') || text.starts_with("~/") || text.starts_with("./") ||
         text.starts_with("../") || text.starts_with("file:") || drive;
}

bool names_a_folder(const io::GgufValue& value) {
  if (const auto* scalar = std::get_if<io::GgufValue::Scalar>(&value.value)) {
    const auto* text = std::get_if<std::string>(scalar);
    return text != nullptr && is_local_path(*text);
  }
  const auto* list =
      std::get_if<std::vector<std::string>>(&std::get<io::GgufValue::Array>(value.value));
  return list != nullptr && std::any_of(list->begin(), list->end(), is_local_path);
}

}  // namespace

io::GgufMetadata carried_general(const io::GgufMetadata& source) {
  io::GgufMetadata carried;
  for (const auto& [key, value] : source) {
    if (!key.starts_with("general.") || names_a_folder(value)) continue;
    if (std::find(kOfTheFile.begin(), kOfTheFile.end(), key) != kOfTheFile.end()) continue;
    carried.emplace_back(key, value);
  }
  return carried;
}

io::GgufMetadata carried_tokenizer(const io::GgufMetadata& source, const std::string& pre) {
  io::GgufMetadata carried;
  for (const auto& [key, value] : source)
    if (key.starts_with("tokenizer.") && (key != kPre || pre.empty()))
      carried.emplace_back(key, value);
  if (!pre.empty() && !carried.empty()) carried.emplace_back(kPre, io::GgufValue::Scalar(pre));
  return carried;
}

}  // namespace calque::formats

#pragma once

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "calque/core/error.h"
#include "calque/text/tokenizer.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::text {

// A temporary folder to write files into.
class Folder : public calque::testing::TempFolder {
 public:
  std::filesystem::path write(const std::string& name, std::string_view content) const {
    std::ofstream file(path() / name, std::ios::binary);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    return path() / name;
  }
  void copy_from(const std::filesystem::path& source) const {
    std::filesystem::copy_file(source, path() / source.filename());
  }
};

inline std::filesystem::path tokenizer_fixture(const std::string& name) {
  return std::filesystem::path(test::fixtures()) / "tokenizers" / name;
}

inline std::filesystem::path chat_fixtures() {
  return std::filesystem::path(test::fixtures()) / "chat";
}

inline nlohmann::json load_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

// The error that `body` throws, as "CODE: message"; empty if it throws none.
template <typename Body>
std::string error_of(Body&& body, ErrorKind kind = ErrorKind::kInput) {
  try {
    body();
  } catch (const Error& error) {
    return (error.kind() == kind ? "" : "(another kind) ") + error.code() + ": " + error.what();
  }
  return "";
}

// A small tokenizer.json (BPE of English text, trained without a pre-tokenizer), to be changed.
inline nlohmann::json small_tokenizer() {
  return load_json(tokenizer_fixture("components") / "tokenizer.json");
}

inline std::unique_ptr<Tokenizer> load_from_json(const nlohmann::json& document) {
  const Folder folder;
  folder.write("tokenizer.json", document.dump());
  return load_tokenizer(folder.path());
}

}  // namespace calque::text

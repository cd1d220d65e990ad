#pragma once

#include <functional>
#include <string>

#include "calque/core/error.h"
#include "calque/text/corpus.h"

namespace calque::text {

struct Document {
  std::string text;       // valid UTF-8, not empty
  bool repaired = false;  // bytes or lone surrogates in it were not Unicode and became U+FFFD
  bool rendered = false;  // a conversation, by a chat template: its special tokens are meant
  bool plain = false;     // a conversation without one
};
using DocumentVisitor = std::function<void(const Document& document)>;

// Reads .jsonl (one object per line), .json (a list of objects), or anything else as text, each
// also as .gz or .zst. Error(kInput) with the line number for a line that is not JSON or has
// neither text nor a conversation in `text_column`, and for formats known not to be text. `model`
// has the chat template for conversations.
void for_each_document(const TextSource& source, const std::filesystem::path& model,
                       const DocumentVisitor& visit);

// Throws Error(kInput, "E212"): a text cannot be read as its file says.
[[noreturn]] inline void refuse_text(const std::string& message) {
  throw Error(ErrorKind::kInput, "E212", message);
}

// "name.jsonl.zst" -> ".jsonl"
std::string suffix_inside_compression(const std::filesystem::path& path);

}  // namespace calque::text

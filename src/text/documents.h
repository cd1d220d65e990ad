#pragma once

#include <functional>
#include <string>

#include "calque/text/corpus.h"

namespace calque::text {

// Called with each document as valid UTF-8. `repaired`: bytes or lone surrogates in it were not
// Unicode and became U+FFFD. Empty documents are skipped.
using DocumentVisitor = std::function<void(std::string document, bool repaired)>;

// Reads .jsonl (one object per line), or anything else as text, each also as .gz or .zst.
// Error(kInput) with the line number for a line that is not JSON or has no text in `text_column`,
// and for formats known not to be text.
void for_each_document(const TextSource& source, const DocumentVisitor& visit);

// "name.jsonl.zst" -> ".jsonl"
std::string suffix_inside_compression(const std::filesystem::path& path);

}  // namespace calque::text

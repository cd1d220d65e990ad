#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "calque/text/chat_template.h"
#include "calque/text/corpus.h"

namespace calque::text {

// True for a row of a corpus that holds a conversation: a list under `column`, or, where that is
// not there, under "messages" or "conversations".
bool holds_conversation(const io::Json& row, const std::string& column);

struct ConversationText {
  std::string text;
  bool plain = false;  // not by a template
};

// Renders the conversations of a source by the model's own chat template, as `apply_chat_template`
// of transformers does. Opens the model's files when the first conversation comes.
class ConversationRenderer {
 public:
  // `model`: a folder or a GGUF file; empty: there is none, and conversations are refused.
  ConversationRenderer(std::filesystem::path model, ChatSettings settings)
      : model_(std::move(model)), settings_(std::move(settings)) {}

  // `row` holds a conversation. Error(kInput, "E212") for messages that are none. If the model has
  // no template for it: "E217", and if its template fails: "E215" or "E216"; but plain text with
  // ChatSettings::plain.
  ConversationText render(const io::Json& row, const std::string& column);

 private:
  std::string rendered(const io::Json& row, const std::string& column);
  void open();
  void check_any() const;
  const std::string& name_for(const io::Json& tools) const;
  const ChatTemplate& template_named(const std::string& name);

  std::filesystem::path model_;
  ChatSettings settings_;
  bool opened_ = false;
  std::int64_t seconds_ = 0;
  std::map<std::string, std::string> sources_;  // by name
  std::map<std::string, ChatTemplate> parsed_;
  io::Json special_tokens_;
};

}  // namespace calque::text

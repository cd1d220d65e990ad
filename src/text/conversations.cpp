#include "text/conversations.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <chrono>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "text/documents.h"
#include "text/gguf_tokenizer.h"
#include "text/json_node.h"
#include "text/side_tokens.h"
#include "text/vocabulary_parts.h"

namespace calque::text {
namespace {

using io::Json;

const Json* conversation_of(const Json& row, const std::string& column) {
  if (const Json* own = row.find(column)) return own->is_array() ? own : nullptr;
  for (const char* usual : {"messages", "conversations"})
    if (const Json* found = row.find(usual); found != nullptr && found->is_array()) return found;
  return nullptr;
}

// ---- Messages

// ShareGPT's names of those who speak.
std::string role_of(const std::string& speaker) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kRoles = {
      {{"human", "user"},
       {"user", "user"},
       {"gpt", "assistant"},
       {"chatgpt", "assistant"},
       {"assistant", "assistant"},
       {"model", "assistant"},
       {"system", "system"},
       {"tool", "tool"},
       {"observation", "tool"},
       {"function_response", "tool"}}};
  for (const auto& [name, role] : kRoles)
    if (name == speaker) return std::string(role);
  refuse_text(
      fmt::format("a message is from {}, who is not known; rename it to human, gpt, system or tool",
                  quote_name(speaker)));
}

Json shared_message(const Json& message) {
  const Json* value = message.find("value");
  const Json& speaker = message.at("from");
  if (!speaker.is_string() || value == nullptr || !value->is_string())
    refuse_text("a message has no text under 'from' and 'value'");
  return {{"role", role_of(speaker.string())}, {"content", *value}};
}

// Parts of text as one string, for templates that know no parts.
Json joined_parts(const Json& content) {
  if (!content.is_array()) return content;
  std::string text;
  for (const Json& part : content.elements()) {
    const Json* own = part.is_object() ? part.find("text") : nullptr;
    if (own == nullptr || !own->is_string())
      refuse_text("a message has a part that is not text; calibration knows text alone");
    text += own->string();
  }
  return text;
}

void check_parts(const Json& content) { joined_parts(content); }

// As transformers prepares a message: keys without a value are left out, and reasoning has the
// names that templates look for.
Json prepared(const Json& message, bool parts) {
  if (!message.is_object())
    refuse_text(fmt::format("a message is {}, not an object", message.type_name()));
  if (message.contains("from") && !message.contains("role")) return shared_message(message);
  const Json* role = message.find("role");
  if (role == nullptr || !role->is_string()) refuse_text("a message has no role");
  Json out = Json::object();
  for (const Json::Member& member : message.members())
    if (!member.value.is_null()) out.append(member.name, member.value);
  if (const Json* content = out.find("content")) {
    check_parts(*content);
    if (!parts) out["content"] = joined_parts(*content);
  }
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    if (!out.contains(name)) continue;
    const Json reasoning = out.at(name);
    if (!out.contains("thinking")) out.append("thinking", reasoning);
    out["reasoning_content"] = reasoning;
    break;
  }
  return out;
}

Json messages_of(const Json& row, const Json& conversation, bool parts) {
  Json messages = Json::array();
  // Beside ShareGPT's conversations, the system's message has a column of its own.
  const Json* system = row.find("system");
  if (system != nullptr && system->is_string() && !system->string().empty() &&
      row.contains("conversations"))
    messages.push_back({{"role", "system"}, {"content", *system}});
  for (const Json& message : conversation.elements()) messages.push_back(prepared(message, parts));
  return messages;
}

// "User: ...", as transcripts have it; calls of tools as JSON.
std::string plain_message(const Json& message) {
  std::string speaker = message.at("role").string();
  if (!speaker.empty() && speaker[0] >= 'a' && speaker[0] <= 'z') speaker[0] -= 'a' - 'A';
  std::string text = speaker + ":";
  if (const Json* reasoning = message.find("thinking");
      reasoning != nullptr && reasoning->is_string())
    text += " (" + reasoning->string() + ")";
  if (const Json* content = message.find("content");
      content != nullptr && content->is_string() && !content->string().empty())
    text += " " + content->string();
  if (const Json* calls = message.find("tool_calls")) text += " " + calls->dump();
  return text + "\n\n";
}

// Null, or a list; some corpora hold it as a string.
Json tools_of(const Json& row) {
  const Json* tools = row.find("tools");
  if (tools == nullptr) return nullptr;
  Json list =
      tools->is_string() && !tools->string().empty() ? io::parse_json(tools->string()) : *tools;
  if (list.is_string() || (list.is_array() && list.empty())) return nullptr;
  if (!list.is_array() && !list.is_null())
    refuse_text(fmt::format("tools is {}, not a list", list.type_name()));
  return list;
}

std::string plain_text(const Json& row, const Json& conversation) {
  const Json tools = tools_of(row);
  std::string text = tools.is_null() ? "" : "Tools: " + tools.dump() + "\n\n";
  const Json messages = messages_of(row, conversation, false);
  for (const Json& message : messages.elements()) text += plain_message(message);
  return text;
}

// ---- The model's files

Json tokens_of_folder(const std::filesystem::path& folder) {
  const Json settings = tokenizer_settings(folder);
  Json tokens = Json::object();
  JsonNode(settings, "tokenizer_config.json", "E213")
      .for_each_member([&tokens](const std::string& key, const JsonNode& value) {
        if (!key.ends_with("_token")) return;
        const Json* text =
            value.value().is_object() ? value.value().find("content") : &value.value();
        if (text != nullptr && text->is_string()) tokens.append(key, *text);
      });
  return tokens;
}

Json tokens_of_vocabulary(const Vocabulary& vocabulary) {
  constexpr std::array<std::pair<const char*, const char*>, 7> kNames = {
      {{"bos", "bos_token"},
       {"eos", "eos_token"},
       {"unknown", "unk_token"},
       {"seperator", "sep_token"},
       {"padding", "pad_token"},
       {"cls", "cls_token"},
       {"mask", "mask_token"}}};
  Json tokens = Json::object();
  for (const auto& [key, name] : kNames)
    if (const auto id = vocabulary.special_ids.find(key); id != vocabulary.special_ids.end())
      tokens.append(name, vocabulary.tokens.at(static_cast<std::size_t>(id->second)));
  return tokens;
}

std::int64_t seconds_at(const std::string& date) {
  int year = 0;
  unsigned month = 0;
  unsigned day = 0;
  const char* text = date.data();
  const auto digits = [&](std::size_t at, std::size_t count, auto& number) {
    const auto parsed = std::from_chars(text + at, text + at + count, number);
    return parsed.ec == std::errc() && parsed.ptr == text + at + count;
  };
  const bool form = date.size() == 10 && date[4] == '-' && date[7] == '-' && digits(0, 4, year) &&
                    digits(5, 2, month) && digits(8, 2, day);
  const std::chrono::year_month_day calendar{std::chrono::year{year}, std::chrono::month{month},
                                             std::chrono::day{day}};
  if (!form || !calendar.ok())
    throw Error(ErrorKind::kConfig, "E106",
                fmt::format("chat_date is {}, not a day such as 2025-01-31", quote_name(date)));
  return std::chrono::seconds(std::chrono::sys_days(calendar).time_since_epoch()).count();
}

// Templates that take parts read their text.
bool reads_parts(const std::string& source) {
  for (const char* access : {"['text']", "[\"text\"]", ".text"})
    if (source.find(access) != std::string::npos) return true;
  return false;
}

}  // namespace

bool holds_conversation(const Json& row, const std::string& column) {
  return conversation_of(row, column) != nullptr;
}

void ConversationRenderer::open() {
  if (opened_) return check_any();
  seconds_ = seconds_at(settings_.date);
  if (!model_.empty() && is_gguf(model_)) {
    const Vocabulary vocabulary = gguf_vocabulary(model_);
    sources_ = vocabulary.named_templates;
    if (!vocabulary.chat_template.empty()) sources_.emplace("default", vocabulary.chat_template);
    special_tokens_ = tokens_of_vocabulary(vocabulary);
  } else if (!model_.empty()) {
    const Json settings = tokenizer_settings(model_);
    std::vector<std::string> remarks;
    sources_ =
        folder_chat_templates(model_, JsonNode(settings, "tokenizer_config.json", "E213"), remarks);
    special_tokens_ = tokens_of_folder(model_);
  }
  opened_ = true;
  check_any();
}

void ConversationRenderer::check_any() const {
  if (sources_.empty())
    throw Error(
        ErrorKind::kInput, "E217",
        fmt::format(
            "conversations need a model with a chat template; {} (chat_template.jinja, "
            "tokenizer_config.json). Copy the template of the model's chat version "
            "there, or give plain text",
            model_.empty() ? std::string("no model is given") : model_.string() + " has none"));
}

const std::string& ConversationRenderer::name_for(const Json& tools) const {
  static const std::string kDefault = "default";
  static const std::string kTools = "tool_use";
  const std::string& wanted = !settings_.name.empty()                          ? settings_.name
                              : !tools.is_null() && sources_.count(kTools) > 0 ? kTools
                                                                               : kDefault;
  if (sources_.count(wanted) > 0) return wanted;
  std::string names;
  for (const auto& [name, source] : sources_)
    names += (names.empty() ? "" : ", ") + quote_name(name);
  throw Error(ErrorKind::kInput, "E217",
              fmt::format("{} has no chat template {}; it has {}. Set chat_template",
                          model_.string(), quote_name(wanted), names));
}

const ChatTemplate& ConversationRenderer::template_named(const std::string& name) {
  const auto known = parsed_.find(name);
  if (known != parsed_.end()) return known->second;
  return parsed_.emplace(name, ChatTemplate(sources_.at(name), "chat template '" + name + "'"))
      .first->second;
}

ConversationText ConversationRenderer::render(const Json& row, const std::string& column) {
  if (!settings_.plain) return {rendered(row, column)};
  try {
    return {rendered(row, column)};
  } catch (const Error& error) {
    const std::string& code = error.code();
    if (code != "E215" && code != "E216" && code != "E217") throw;
    return {plain_text(row, *conversation_of(row, column)), true};
  }
}

std::string ConversationRenderer::rendered(const Json& row, const std::string& column) {
  open();
  const Json tools = tools_of(row);
  const std::string& name = name_for(tools);
  const Json* conversation = conversation_of(row, column);
  if (conversation->empty()) return "";
  Json variables = special_tokens_;
  variables["messages"] = messages_of(row, *conversation, reads_parts(sources_.at(name)));
  variables["tools"] = tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = false;
  for (const Json* more :
       {static_cast<const Json*>(&settings_.variables), row.find("chat_template_kwargs")})
    if (more != nullptr && more->is_object())
      for (const Json::Member& variable : more->members())
        variables[variable.name] = variable.value;
  return template_named(name).render(variables, seconds_);
}

}  // namespace calque::text

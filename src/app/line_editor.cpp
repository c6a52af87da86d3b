#include "app/line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <clocale>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "app/command.h"
#include "core/error.h"
#include "core/utf8.h"

namespace tritllm::app {
namespace {

// Beyond it, drawing each further key takes long; a longer text fits no context.
constexpr size_t kLongestPaste = size_t{1} << 20;
constexpr std::wstring_view kPasteEnd = L"\x1b[201~";
constexpr wchar_t kReplacement = 0xFFFD;

// libedit draws with the locale's encoding. Only that category is set: numbers keep their decimal point.
void use_utf8() {
  for (const char* const locale : {"", "C.UTF-8"}) {
    if (std::setlocale(LC_CTYPE, locale) != nullptr && std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0) return;
  }
  throw Error(ErrorCode::kUnsupported, "terminal", "the system has no UTF-8 locale",
              "install C.UTF-8, or set LC_ALL to one that it has");
}

// Of a sequence that utf8_sequence_length() found well-formed.
wchar_t decode(std::string_view sequence) noexcept {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(sequence[i]); };
  if (sequence.size() == 1) return static_cast<wchar_t>(byte(0));
  uint32_t code = byte(0) & (0xFFu >> (sequence.size() + 1));
  for (size_t i = 1; i < sequence.size(); ++i) code = code << 6 | (byte(i) & 0x3Fu);
  return static_cast<wchar_t>(code);
}

std::wstring widened(std::string_view text) {
  std::wstring wide;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_sequence_length(text.substr(at));
    wide += length == 0 ? kReplacement : decode(text.substr(at, length));
    at += std::max<size_t>(length, 1);
  }
  return wide;
}

std::string narrowed(std::wstring_view wide) {
  std::string text;
  for (const wchar_t character : wide) {
    const auto code = static_cast<uint32_t>(character);
    if (code < 0x80) {
      text += static_cast<char>(code);
      continue;
    }
    const int continuations = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    text += static_cast<char>(0xF0u << (3 - continuations) | code >> (6 * continuations));
    for (int i = continuations - 1; i >= 0; --i) text += static_cast<char>(0x80u | (code >> (6 * i) & 0x3Fu));
  }
  return text;
}

void write_to_terminal(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// Terminals send newlines of pasted text as carriage returns.
void normalise_newlines(std::wstring& text) {
  std::wstring normal;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == L'\r' && i + 1 < text.size() && text[i + 1] == L'\n') continue;
    normal += text[i] == L'\r' ? L'\n' : text[i];
  }
  text = std::move(normal);
}

// Notes of the signal handler.
std::atomic<bool> interrupt{false}, resize{false}, resume{false}, second_ends{false};
std::atomic<int> end{0};
std::array<int, 2> wakeups{-1, -1};

// Any thread of the process may be the one that runs this.
void note(int signal) {
  const int saved = errno;
  switch (signal) {
    case SIGINT:
      if (interrupt.exchange(true) && second_ends) ::_exit(kInterruptedStatus);
      break;
    case SIGWINCH: resize = true; break;
    case SIGCONT: resume = true; break;
    default: end = signal;
  }
  [[maybe_unused]] const ssize_t written = ::write(wakeups[1], "", 1);  // a full pipe wakes as well
  errno = saved;
}

}  // namespace

TerminalSignals::TerminalSignals() {
  if (::pipe2(wakeups.data(), O_CLOEXEC | O_NONBLOCK) != 0) throw io_error("signals", "make a pipe", errno);
  for (const int signal : {SIGINT, SIGWINCH, SIGCONT, SIGTERM, SIGHUP}) {
    struct sigaction action {};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    ::sigaction(signal, &action, nullptr);
  }
}

int TerminalSignals::descriptor() const noexcept { return wakeups[0]; }

void TerminalSignals::forget_wakeups() noexcept {
  std::array<char, 64> drain{};
  while (::read(wakeups[0], drain.data(), drain.size()) > 0) {
  }
}

bool TerminalSignals::take_interrupt() noexcept { return interrupt.exchange(false); }
bool TerminalSignals::take_resize() noexcept { return resize.exchange(false); }
bool TerminalSignals::take_resume() noexcept { return resume.exchange(false); }
bool TerminalSignals::interrupted() const noexcept { return interrupt; }
int TerminalSignals::end_signal() const noexcept { return end; }
void TerminalSignals::second_interrupt_ends(bool does) noexcept { second_ends = does; }

struct LineEditor::Editor {
  explicit Editor(TerminalSignals& watched) : signals(watched) {}
  ~Editor() {
    if (history != nullptr) ::history_wend(history);
    if (line != nullptr) ::el_end(line);
  }

  static Editor& of(EditLine* line) {
    void* self = nullptr;
    ::el_wget(line, EL_CLIENTDATA, &self);
    return *static_cast<Editor*>(self);
  }
  static wchar_t* prompt_of(EditLine* line) { return of(line).prompt.data(); }
  static int read_character(EditLine* line, wchar_t* character) { return of(line).read(*character); }
  static unsigned char insert_paste(EditLine* line, int) { return of(line).paste(); }

  int read(wchar_t& character);
  bool wait_for_bytes();
  void handle_terminal();
  unsigned char paste();

  TerminalSignals& signals;
  EditLine* line = nullptr;
  HistoryW* history = nullptr;
  std::wstring prompt;
  std::array<char, 4096> bytes{};  // typed and not yet decoded: [begin, end)
  size_t begin = 0, end = 0;
  bool interrupted = false, had_text = false;
  bool takes_pastes = false;  // not with the keys of vi, where Escape is a key of its own
};

// 1: a character; 0: the terminal is gone; -1: the user gave up the line.
int LineEditor::Editor::read(wchar_t& character) {
  while (true) {
    const std::string_view pending(bytes.data() + begin, end - begin);
    const size_t length = utf8_sequence_length(pending);
    // Four bytes hold every sequence whole.
    if (length == 0 && pending.size() < 4 && (pending.empty() || static_cast<unsigned char>(pending[0]) >= 0xC2)) {
      if (!wait_for_bytes()) return interrupted ? -1 : 0;
      continue;
    }
    character = length == 0 ? kReplacement : decode(pending.substr(0, length));
    begin += std::max<size_t>(length, 1);
    return 1;
  }
}

// False at the end of the input, or where a signal ends the line.
bool LineEditor::Editor::wait_for_bytes() {
  std::memmove(bytes.data(), bytes.data() + begin, end - begin);
  end -= begin;
  begin = 0;
  while (true) {
    std::array<pollfd, 2> polled{{{STDIN_FILENO, POLLIN, 0}, {signals.descriptor(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return false;
    signals.forget_wakeups();
    if (signals.end_signal() != 0) return false;
    interrupted = signals.take_interrupt();
    if (interrupted) {
      const LineInfoW* const typed = ::el_wline(line);
      had_text = typed->lastchar != typed->buffer;
      begin = end = 0;
      return false;
    }
    handle_terminal();
    if (polled[0].revents == 0) continue;
    const ssize_t got = ::read(STDIN_FILENO, bytes.data() + end, bytes.size() - end);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return false;
    end += static_cast<size_t>(got);
    return true;
  }
}

void LineEditor::Editor::handle_terminal() {
  if (signals.take_resize()) ::el_resize(line);
  if (!signals.take_resume()) return;
  // The shell had the terminal in the meantime.
  ::el_wset(line, EL_PREP_TERM, 0);
  ::el_wset(line, EL_PREP_TERM, 1);
  ::el_wset(line, EL_REFRESH);
}

unsigned char LineEditor::Editor::paste() {
  std::wstring text;
  bool too_long = false;
  while (!text.ends_with(kPasteEnd)) {
    wchar_t character = 0;
    const int got = read(character);
    if (got <= 0) return got == 0 ? CC_EOF : CC_FATAL;
    if (character != 0) text += character;
    if (text.size() < kLongestPaste) continue;
    too_long = true;
    text.erase(0, text.size() - kPasteEnd.size());
  }
  if (too_long) return CC_ERROR;
  text.resize(text.size() - kPasteEnd.size());
  normalise_newlines(text);
  return text.empty() || ::el_winsertstr(line, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

LineEditor::LineEditor(TerminalSignals& signals) : editor_(std::make_unique<Editor>(signals)) {
  use_utf8();
  editor_->line = ::el_init("tritllm", stdin, stdout, stderr);
  editor_->history = ::history_winit();
  if (editor_->line == nullptr || editor_->history == nullptr)
    throw Error(ErrorCode::kIo, "terminal", "cannot be prepared for editing");
  EditLine* const line = editor_->line;
  ::el_wset(line, EL_CLIENTDATA, editor_.get());
  ::el_wset(line, EL_PROMPT, &Editor::prompt_of);
  ::el_wset(line, EL_GETCFN, &Editor::read_character);
  ::el_wset(line, EL_EDITOR, L"emacs");
  HistEventW event{};
  ::history_w(editor_->history, &event, H_SETSIZE, static_cast<int>(kMostHistoryEntries));
  ::el_wset(line, EL_HIST, &::history_w, editor_->history);
  ::el_source(line, nullptr);  // the user's ~/.editrc, which may choose the keys of vi
  const wchar_t* keys = nullptr;
  ::el_wget(line, EL_EDITOR, &keys);
  const char* const terminal = std::getenv("TERM");
  editor_->takes_pastes = std::wstring_view(keys) == L"emacs" && terminal != nullptr && std::strcmp(terminal, "dumb") != 0;
  if (!editor_->takes_pastes) return;
  ::el_wset(line, EL_SETTY, L"-d", L"-icrnl", L"-inlcr", nullptr);  // otherwise the \r\n of pasted text would become two newlines
  ::el_wset(line, EL_ADDFN, L"tritllm-paste", L"Insert pasted text as it is", &Editor::insert_paste);
  ::el_wset(line, EL_BIND, L"\\e[200~", L"tritllm-paste", nullptr);
}

LineEditor::~LineEditor() = default;

ChatInput LineEditor::read_line(const char* prompt) {
  editor_->prompt = widened(prompt);
  editor_->interrupted = false;
  int count = 0;
  ::el_wset(editor_->line, EL_PREP_TERM, 1);  // raw mode first: keys typed at a visible prompt must not be lost
  // Bracketed paste: the terminal marks pasted text.
  if (editor_->takes_pastes) write_to_terminal("\x1b[?2004h");
  const wchar_t* const typed = ::el_wgets(editor_->line, &count);
  if (editor_->takes_pastes) write_to_terminal("\x1b[?2004l");
  if (editor_->interrupted) {
    write_to_terminal("\n");
    return {ChatInput::Kind::kInterrupt, editor_->had_text ? "…" : ""};
  }
  if (typed == nullptr || count <= 0) return {};
  ChatInput input{ChatInput::Kind::kText, narrowed({typed, static_cast<size_t>(count)})};
  if (input.text.ends_with('\n')) input.text.pop_back();
  return input;
}

void LineEditor::remember(const std::string& input) {
  HistEventW event{};
  ::history_w(editor_->history, &event, H_ENTER, widened(input).c_str());
}

}  // namespace tritllm::app

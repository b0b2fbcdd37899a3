// A SoapySDR driver for tests: what is sent is received, at the level that the two gains say. Nothing is lost, time is
// the reader's. With the argument carrier=1, a tone is received where nothing is sent.
#include <SoapySDR/Device.hpp>
#include <SoapySDR/Formats.hpp>
#include <SoapySDR/Registry.hpp>

#include <chrono>
#include <cmath>
#include <complex>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <thread>

using Sample = std::complex<float>;

static const size_t ROOM = 1 << 20;
static const double TONE = 0.01;  // of full scale, at a receive gain of 60 dB
static std::mutex guard;
static std::deque<Sample> wire;  // of all devices of this process
static double gains[2] = {0, 0};

static float level(double gain_db) { return float(std::pow(10.0, gain_db / 20)); }

static void wait_us(long timeout_us) { std::this_thread::sleep_for(std::chrono::microseconds(std::min(timeout_us, 2000L))); }

class Wire : public SoapySDR::Device {
  public:
    explicit Wire(const SoapySDR::Kwargs &args) : carrier(args.count("carrier") != 0) {}

    std::string getDriverKey() const override { return "wire"; }
    std::string getHardwareKey() const override { return "a deque"; }
    size_t getNumChannels(int) const override { return 1; }
    std::vector<std::string> listAntennas(int, size_t) const override { return {"A", "B"}; }
    void setAntenna(int, size_t, const std::string &name) override { antenna = name; }
    std::string getAntenna(int, size_t) const override { return antenna; }
    SoapySDR::Range getGainRange(int direction, size_t) const override {
        return direction == SOAPY_SDR_TX ? SoapySDR::Range(-60, 0) : SoapySDR::Range(0, 70);
    }
    void setGain(int direction, size_t, double gain_db) override { gains[direction == SOAPY_SDR_TX] = gain_db; }
    double getGain(int direction, size_t) const override { return gains[direction == SOAPY_SDR_TX]; }
    SoapySDR::RangeList getFrequencyRange(int, size_t) const override { return {SoapySDR::Range(100e6, 6e9)}; }
    void setFrequency(int, size_t, double freq_hz, const SoapySDR::Kwargs &) override { this->freq_hz = freq_hz; }
    double getFrequency(int, size_t) const override { return freq_hz; }
    SoapySDR::RangeList getSampleRateRange(int, size_t) const override { return {SoapySDR::Range(1e5, 10e6)}; }
    void setSampleRate(int, size_t, double rate_hz) override { this->rate_hz = rate_hz > 9e6 ? 9e6 : rate_hz; }
    double getSampleRate(int, size_t) const override { return rate_hz; }
    void writeSetting(const std::string &key, const std::string &) override {
        if (key == "lose") lose = true;
        if (key == "break") broken = true;
    }

    std::vector<std::string> getStreamFormats(int, size_t) const override { return {SOAPY_SDR_CF32}; }
    std::string getNativeStreamFormat(int, size_t, double &full_scale) const override {
        full_scale = 1;
        return SOAPY_SDR_CF32;
    }
    SoapySDR::Stream *setupStream(int direction, const std::string &format, const std::vector<size_t> &,
                                  const SoapySDR::Kwargs &) override {
        if (format != SOAPY_SDR_CF32) throw std::runtime_error("CF32 only");
        return reinterpret_cast<SoapySDR::Stream *>(direction == SOAPY_SDR_TX ? &tx : &rx);
    }
    void closeStream(SoapySDR::Stream *) override {}
    size_t getStreamMTU(SoapySDR::Stream *) const override { return 4096; }
    int activateStream(SoapySDR::Stream *, int, long long, size_t) override { return 0; }
    int deactivateStream(SoapySDR::Stream *, int, long long) override { return 0; }

    int readStream(SoapySDR::Stream *, void *const *buffs, size_t num, int &flags, long long &, long timeout_us) override {
        Sample *out = static_cast<Sample *>(buffs[0]);
        flags = 0;
        std::unique_lock<std::mutex> lock(guard);
        if (broken) return SOAPY_SDR_STREAM_ERROR;
        if (lose) {
            lose = false;
            return SOAPY_SDR_OVERFLOW;
        }
        num = std::min(num, size_t(4096));
        if (wire.empty() && carrier) {
            for (size_t i = 0; i < num; i++) out[i] = float(TONE) * level(gains[0] - 60) * std::polar(1.0f, 0.1f * float(i));
            return int(num);
        }
        if (wire.empty()) {
            lock.unlock();
            wait_us(timeout_us);
            return SOAPY_SDR_TIMEOUT;
        }
        num = std::min(num, wire.size());
        const float gain = level(gains[0] - 60);
        for (size_t i = 0; i < num; i++) out[i] = gain * wire[i];
        wire.erase(wire.begin(), wire.begin() + num);
        return int(num);
    }

    int writeStream(SoapySDR::Stream *, const void *const *buffs, size_t num, int &, long long, long timeout_us) override {
        const Sample *in = static_cast<const Sample *>(buffs[0]);
        std::unique_lock<std::mutex> lock(guard);
        if (wire.size() >= ROOM) {
            lock.unlock();
            wait_us(timeout_us);
            return SOAPY_SDR_TIMEOUT;
        }
        num = std::min(num, size_t(4096));
        for (size_t i = 0; i < num; i++) wire.push_back(level(gains[1]) * in[i]);
        return int(num);
    }

  private:
    bool carrier, lose = false, broken = false;
    int rx = 0, tx = 0;
    double freq_hz = 0, rate_hz = 1e6;
    std::string antenna = "A";
};

static SoapySDR::KwargsList find(const SoapySDR::Kwargs &args) {
    if (!args.count("driver") || args.at("driver") != "wire") return {};
    SoapySDR::Kwargs found{{"driver", "wire"}};
    if (args.count("carrier")) found["carrier"] = args.at("carrier");
    return {found};
}

static SoapySDR::Device *make(const SoapySDR::Kwargs &args) { return new Wire(args); }

static SoapySDR::Registry registry("wire", &find, &make, SOAPY_SDR_ABI_VERSION);

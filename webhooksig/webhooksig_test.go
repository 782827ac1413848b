package webhooksig_test

import (
	"bufio"
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/buildcast/buildcast/webhooksig"
)

func parse(t testing.TB, text string) webhooksig.Secret {
	t.Helper()
	s, err := webhooksig.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// vectors are those that the libraries for Standard Webhooks publish.
var vectors = []struct {
	secret, id string
	unix       int64
	body, want string
}{
	{
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
		`{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
	},
	{
		"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1649367553,
		`{"email":"test@example.com","username":"test_user"}`, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
	},
}

// The example of docs/webhooks-receiving.md is what receivers try their code on.
func TestDocumentedExample(t *testing.T) {
	page, err := os.ReadFile("../docs/webhooks-receiving.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(page), "```http\n")
	example, _, _ = strings.Cut(example, "\n```")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(example)))
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(example, "\n\n")
	unix, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	secret := parse(t, regexp.MustCompile("`(whsec_[^`]{8,})`").FindStringSubmatch(string(page))[1])
	v := webhooksig.Verifier{Secrets: []webhooksig.Secret{secret}, Now: at(unix)}
	if err := v.Verify(r.Header, []byte(body)); err != nil {
		t.Error(err)
	}
	if err := webhooksig.VerifyBody(r.Header, []byte(body), secret); err != nil {
		t.Error(err)
	}
}

const foreign = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="

func signed(id string, unix int64, signature string) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(unix, 10))
	h.Set("webhook-signature", signature)
	return h
}

func at(unix int64) func() time.Time {
	return func() time.Time { return time.Unix(unix, 0) }
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		secret := parse(t, v.secret)
		for range 3 { // the second and third with a state that was used
			if got := webhooksig.Sign(v.id, time.Unix(v.unix, 999), []byte(v.body), secret); got != v.want {
				t.Errorf("%s: signed %s, want %s", v.id, got, v.want)
			}
		}
		verifier := webhooksig.Verifier{Secrets: []webhooksig.Secret{secret}, Now: at(v.unix)}
		if err := verifier.Verify(signed(v.id, v.unix, v.want), []byte(v.body)); err != nil {
			t.Errorf("%s: %v", v.id, err)
		}
	}
}

func TestVerifySignatures(t *testing.T) {
	v := vectors[0]
	secret, other := parse(t, v.secret), parse(t, vectors[1].secret)
	both := webhooksig.Sign(v.id, time.Unix(v.unix, 0), []byte(v.body), other, secret)
	if n := len(strings.Fields(both)); n != 2 {
		t.Fatalf("%q has %d signatures, want 2", both, n)
	}
	for _, tt := range []struct {
		name, signature, body string
		secrets               []webhooksig.Secret
		want                  error
	}{
		{"the right one", v.want, v.body, []webhooksig.Secret{secret}, nil},
		{"ours is the second secret", v.want, v.body, []webhooksig.Secret{other, {}, secret}, nil},
		{"ours is the second signature", both, v.body, []webhooksig.Secret{secret}, nil},
		{"and the first", both, v.body, []webhooksig.Secret{other}, nil},
		{"among others", foreign + " v1, v1a,xyz  v2,abc " + v.want, v.body, []webhooksig.Secret{secret}, nil},
		{"a foreign one", foreign, v.body, []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"a bare version", "v1,", v.body, []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"another version", "v2" + v.want[2:], v.body, []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"no version", v.want[3:], v.body, []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"cut", v.want[:len(v.want)-1], v.body, []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"longer", v.want + "=", v.body, []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"another body", v.want, v.body + " ", []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"another secret", v.want, v.body, []webhooksig.Secret{other}, webhooksig.ErrNoMatch},
		{"no secret", v.want, v.body, nil, webhooksig.ErrNoMatch},
		{"the zero secret", v.want, v.body, []webhooksig.Secret{{}}, webhooksig.ErrNoMatch},
		{"only spaces", "  ", v.body, []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"nothing", "", v.body, []webhooksig.Secret{secret}, webhooksig.ErrMissingHeader},
	} {
		verifier := webhooksig.Verifier{Secrets: tt.secrets, Now: at(v.unix)}
		err := verifier.Verify(signed(v.id, v.unix, tt.signature), []byte(tt.body))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestVerifyMissingHeader(t *testing.T) {
	v := vectors[0]
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		h := signed(v.id, v.unix, v.want)
		h.Del(name)
		err := webhooksig.Verify(h, []byte(v.body), parse(t, v.secret))
		if !errors.Is(err, webhooksig.ErrMissingHeader) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestVerifyTimestamp(t *testing.T) {
	const now = 1_700_000_000
	secret := webhooksig.NewSecret()
	body := []byte("{}")
	for _, tt := range []struct {
		tolerance time.Duration
		unix      int64
		want      error
	}{
		{0, now, nil},
		{0, now - 300, nil},
		{0, now - 301, webhooksig.ErrTimestamp},
		{0, now + 300, nil},
		{0, now + 301, webhooksig.ErrTimestamp},
		{time.Second, now - 2, webhooksig.ErrTimestamp},
		{time.Hour, now + 3600, nil},
		{0, 0, webhooksig.ErrTimestamp},
		{math.MaxInt64, -1, webhooksig.ErrTimestamp},
		{math.MaxInt64, math.MinInt64, webhooksig.ErrTimestamp},
		{0, math.MaxInt64, webhooksig.ErrTimestamp},
	} {
		v := webhooksig.Verifier{Secrets: []webhooksig.Secret{secret}, Tolerance: tt.tolerance, Now: at(now)}
		signature := webhooksig.Sign("msg_1", time.Unix(tt.unix, 0), body, secret)
		if err := v.Verify(signed("msg_1", tt.unix, signature), body); !errors.Is(err, tt.want) {
			t.Errorf("%d with tolerance %v: %v, want %v", tt.unix-now, tt.tolerance, err, tt.want)
		}
	}
	v := webhooksig.Verifier{Secrets: []webhooksig.Secret{secret}, Now: at(now)}
	h := signed("msg_1", now, webhooksig.Sign("msg_1", time.Unix(now, 0), body, secret))
	for _, text := range []string{"now", "1700000000.0", "+1700000000", "01700000000", " 1700000000", "1e9", "99999999999999999999"} {
		h.Set("webhook-timestamp", text)
		if err := v.Verify(h, body); !errors.Is(err, webhooksig.ErrTimestamp) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestVerifyByTheClock(t *testing.T) {
	secret, body := webhooksig.NewSecret(), []byte("{}")
	now := time.Now()
	if err := webhooksig.Verify(signed("msg_1", now.Unix(), webhooksig.Sign("msg_1", now, body, secret)), body, secret); err != nil {
		t.Error(err)
	}
	old := now.Add(-time.Hour)
	err := webhooksig.Verify(signed("msg_1", old.Unix(), webhooksig.Sign("msg_1", old, body, secret)), body, secret)
	if !errors.Is(err, webhooksig.ErrTimestamp) {
		t.Error(err)
	}
}

func TestBody(t *testing.T) {
	const want = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	secret, body := parse(t, "It's a Secret to Everybody"), []byte("Hello, World!")
	if got := webhooksig.SignBody(body, secret); got != want {
		t.Fatalf("signed %s, want %s", got, want)
	}
	if got := webhooksig.SignBody(body, webhooksig.Secret{}); got != "" {
		t.Errorf("the zero secret signed %s", got)
	}
	for _, tt := range []struct {
		name, given string
		secrets     []webhooksig.Secret
		want        error
	}{
		{"the right one", want, []webhooksig.Secret{{}, webhooksig.NewSecret(), secret}, nil},
		{"another secret", want, []webhooksig.Secret{webhooksig.NewSecret()}, webhooksig.ErrNoMatch},
		{"no secret", want, nil, webhooksig.ErrNoMatch},
		{"cut", want[:63], []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"upper case", strings.ToUpper(want), []webhooksig.Secret{secret}, webhooksig.ErrNoMatch},
		{"none", "", []webhooksig.Secret{secret}, webhooksig.ErrMissingHeader},
	} {
		h := http.Header{}
		h.Set("X-Webhook-Signature", tt.given)
		if err := webhooksig.VerifyBody(h, body, tt.secrets...); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// The two schemes derive different keys from one text.
func TestPlainSecret(t *testing.T) {
	plain := parse(t, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	v := vectors[0]
	if got := webhooksig.Sign(v.id, time.Unix(v.unix, 0), []byte(v.body), plain); got == v.want {
		t.Error("a secret without whsec_ was decoded")
	}
	raw := parse(t, "whsec_"+base64.StdEncoding.EncodeToString([]byte(plain.Reveal())))
	now := time.Unix(v.unix, 0)
	if a, b := webhooksig.Sign("a", now, nil, plain), webhooksig.Sign("a", now, nil, raw); a != b {
		t.Errorf("a plain secret's key is not its bytes: %s, %s", a, b)
	}
	if webhooksig.SignBody(nil, plain) == webhooksig.SignBody(nil, raw) {
		t.Error("X-Webhook-Signature is not keyed with the text as it is written")
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) webhooksig.Secret {
			key := rapid.SliceOfN(rapid.Byte(), 24, 64).Draw(t, "key")
			s, err := webhooksig.ParseSecret("whsec_" + base64.StdEncoding.EncodeToString(key))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}), 1, 3).Draw(t, "secrets")
		id := rapid.StringN(1, 200, 400).Draw(t, "id")
		now := time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "unix"), 0)
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		h := signed(id, now.Unix(), webhooksig.Sign(id, now, body, secrets...))
		h.Set("X-Webhook-Signature", webhooksig.SignBody(body, secrets[0]))
		mine := rapid.SampledFrom(secrets).Draw(t, "mine")
		v := webhooksig.Verifier{Secrets: []webhooksig.Secret{mine}, Now: func() time.Time { return now }}
		if err := v.Verify(h, body); err != nil {
			t.Fatal(err)
		}
		if err := webhooksig.VerifyBody(h, body, secrets[0]); err != nil {
			t.Fatal(err)
		}
		if len(body) > 0 {
			body[rapid.IntRange(0, len(body)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		} else {
			body = []byte{0}
		}
		if v.Verify(h, body) == nil || webhooksig.VerifyBody(h, body, secrets[0]) == nil {
			t.Fatal("a changed body was accepted")
		}
	})
}

// States are shared between calls, never between two at once.
func TestConcurrent(t *testing.T) {
	v := vectors[0]
	secret := parse(t, v.secret)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				if got := webhooksig.Sign(v.id, time.Unix(v.unix, 0), []byte(v.body), secret); got != v.want {
					t.Errorf("signed %s", got)
				}
			}
		})
	}
	group.Wait()
}

func FuzzVerify(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.id, strconv.FormatInt(v.unix, 10), v.want, []byte(v.body))
		f.Add(v.id, strconv.FormatInt(v.unix, 10), foreign+" v1, "+v.want, []byte(v.body))
	}
	f.Add("", "-1", "v1,", []byte(nil))
	secret := parse(f, vectors[0].secret)
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signature}}
		unix, parseErr := strconv.ParseInt(timestamp, 10, 64)
		v := webhooksig.Verifier{Secrets: []webhooksig.Secret{secret}, Now: at(unix)}
		err := v.Verify(h, body)
		if err == nil {
			if want := webhooksig.Sign(id, time.Unix(unix, 0), body, secret); parseErr != nil || !strings.Contains(signature, want) {
				t.Fatalf("accepted %q, %q, %q", id, timestamp, signature)
			}
			return
		}
		if !errors.Is(err, webhooksig.ErrMissingHeader) && !errors.Is(err, webhooksig.ErrTimestamp) && !errors.Is(err, webhooksig.ErrNoMatch) {
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	secret, body, now := webhooksig.NewSecret(), []byte(strings.Repeat("x", 300)), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		webhooksig.Sign("msg_01JDTESTBUILD00000000000_1234", now, body, secret)
	}
}

func BenchmarkSignBody(b *testing.B) {
	secret, body := webhooksig.NewSecret(), []byte(strings.Repeat("x", 300))
	b.ReportAllocs()
	for b.Loop() {
		webhooksig.SignBody(body, secret)
	}
}

func BenchmarkVerify(b *testing.B) {
	secret, body, now := webhooksig.NewSecret(), []byte(strings.Repeat("x", 300)), time.Now()
	h := signed("msg_1", now.Unix(), webhooksig.Sign("msg_1", now, body, secret))
	v := webhooksig.Verifier{Secrets: []webhooksig.Secret{secret}, Now: at(now.Unix())}
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Verify(h, body); err != nil {
			b.Fatal(err)
		}
	}
}

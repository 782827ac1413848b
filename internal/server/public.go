package server

import (
	"cmp"
	"net"
	"net/http"

	"github.com/buildcast/buildcast"
	"github.com/buildcast/buildcast/internal/config"
	"github.com/buildcast/buildcast/internal/deploy/local"
	"github.com/buildcast/buildcast/internal/request"
)

const flagPreviewURL = "--preview-url"

// previewAddress returns the addresses at which browsers reach previews.
func (s *Server) previewAddress() (local.Address, error) {
	_, port, _ := net.SplitHostPort(s.preview.listener.Addr().String())
	at, err := local.ParseAddress(cmp.Or(s.config.PreviewURL, "http://{label}."+net.JoinHostPort("localhost", port)))
	switch {
	case err != nil:
		return at, ofFlag(flagPreviewURL, err)
	case at.Origin() != "" && at.Origin() == s.config.PublicOrigin():
		return at, buildcast.Errorf(buildcast.InvalidArgument, "%s: it has the origin of --public-url, so a preview's page could act as the dashboard: use another host name, such as https://{label}.previews.example.com", flagPreviewURL).At(flagPreviewURL)
	}
	if public := s.config.Public(); public != nil && s.config.PreviewURL == "" && !config.Loopback(net.JoinHostPort(public.Hostname(), "0")) {
		s.logger.Warn("previews are announced at localhost, which browsers on other machines cannot reach: set " + flagPreviewURL)
	}
	return at, nil
}

// framed returns what the dashboard's page of the build may show in a frame: the
// build's preview here, and what Cloudflare hosts if builds are deployed there.
func (s *Server) framed(buildID string) []string {
	sources := []string{s.previews.URL(buildID)}
	if s.cloudflare != nil {
		sources = append(sources, "https://*.pages.dev")
	}
	return sources
}

// checkOrigin refuses Socket.IO to pages whose origin is not allowed.
func (s *Server) checkOrigin(r *http.Request) error {
	if request.SameOrigin(r, s.config.PublicOrigin()) {
		return nil
	}
	err := request.ForeignOrigin(r.Header.Get("Origin"))
	request.Failed(r.Context(), err)
	return err
}

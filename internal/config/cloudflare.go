package config

import "net/url"

// Cloudflare is the deploy target cloudflare. Its variables have Cloudflare's own
// names, as other tools use them.
type Cloudflare struct {
	// APIToken needs the permission "Cloudflare Pages: Edit". Empty: there is no such target.
	APIToken string `name:"api-token" env:"CLOUDFLARE_API_TOKEN" placeholder:"TOKEN" help:"API token with the permission Cloudflare Pages: Edit. With it, builds may deploy to Cloudflare Pages. @FILE reads it from a file. Flags are visible in process lists: use the environment or a file."`
	// AccountID is whose projects are used.
	AccountID string `name:"account-id" env:"CLOUDFLARE_ACCOUNT_ID" placeholder:"ID" help:"Cloudflare account whose Pages are used."`
	// Project holds all builds, one branch each. It is made if it is absent.
	Project string `default:"buildcast-preview" placeholder:"NAME" help:"Cloudflare Pages project that builds are deployed to, each on the branch build-ID. It is made if it is absent."`
	// ProductionBranch is the branch of plans with production: true.
	ProductionBranch string `default:"main" placeholder:"NAME" help:"Branch of the project that plans with production: true are deployed to."`
	// BaseURL is where the API is.
	BaseURL string `name:"api-base-url" env:"CLOUDFLARE_API_BASE_URL" default:"https://api.cloudflare.com/client/v4" placeholder:"URL" help:"Address of Cloudflare's API."`
}

func (c *Cloudflare) check() (err error) {
	if c.APIToken, err = Secret("--cloudflare-api-token", c.APIToken); err != nil {
		return err
	}
	if c.APIToken == "" {
		return nil
	}
	if c.AccountID == "" {
		return invalid("--cloudflare-account-id", "it is empty, and --cloudflare-api-token is set: name the account (CLOUDFLARE_ACCOUNT_ID)")
	}
	if u, err := url.Parse(c.BaseURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return invalid("--cloudflare-api-base-url", "it is not an address such as https://api.cloudflare.com/client/v4")
	}
	if c.Project == "" || c.ProductionBranch == "" {
		return invalid("--cloudflare-project", "the project and its production branch must be named")
	}
	return nil
}

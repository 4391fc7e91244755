package simulation

// dish is what the menu says of a product. Prices are in cents.
type dish struct {
	sku, name string
	price     int
	endless   bool // it does not run out
}

var water = dish{sku: "water-50", name: "Water 0.5 l", price: 250, endless: true}

var menu = []dish{
	{sku: "margherita", name: "Pizza Margherita", price: 950},
	{sku: "funghi", name: "Pizza Funghi", price: 1080},
	{sku: "diavola", name: "Pizza Diavola", price: 1190},
	{sku: "carbonara", name: "Spaghetti Carbonara", price: 1240},
	{sku: "lasagne", name: "Lasagne al forno", price: 1290},
	{sku: "gnocchi", name: "Gnocchi Sorrentina", price: 1150},
	{sku: "caprese", name: "Insalata Caprese", price: 890},
	{sku: "minestrone", name: "Minestrone", price: 690},
	{sku: "tiramisu", name: "Tiramisù", price: 590},
	{sku: "panna-cotta", name: "Panna Cotta", price: 550},
	water,
	{sku: "lemonade", name: "Lemonade", price: 390, endless: true},
}

// channels are where orders come from; most are delivered.
var channels = []string{"delivery", "delivery", "delivery", "takeaway", "dine_in", "dine_in", "web", "phone"}

type customer struct{ name, phone, address string }

var customers = []customer{
	{"Zoë Brandt", "+49 30 901820", "Lindenstraße 3, 10969 Berlin"},
	{"Amira Haddad", "+49 30 901821", "Sonnenallee 81, 12045 Berlin"},
	{"Jan Kowalski", "+49 30 901822", "Torstraße 140, 10119 Berlin"},
	{"Łucja Nowak", "+49 30 901823", "Kantstraße 22, 10623 Berlin"},
	{"Mehmet Yıldız", "+49 30 901824", "Oranienstraße 190, 10999 Berlin"},
	{"Sofia Rossi", "+49 30 901825", "Bergmannstraße 10, 10961 Berlin"},
	{"Nguyễn Minh", "+49 30 901826", "Turmstraße 33, 10551 Berlin"},
	{"Ana García", "+49 30 901827", "Schönhauser Allee 51, 10437 Berlin"},
}

var driverNames = []string{"Amir", "Nele", "Tomasz", "Fatou", "Luca", "Mina"}

var (
	rejections = []string{"The kitchen is closing", "The address is too far away", "Out of dough"}
	regrets    = []string{"The customer called", "Ordered twice", "It takes too long"}
)

var printerPlaces = []string{"kitchen", "counter"}

var printerNames = map[string]string{"kitchen": "Kitchen", "counter": "Counter"}

// troubles are a printer's, with what people are told of them.
var troubles = map[string]string{
	"paper_out":  "The roll is empty",
	"cover_open": "The cover is open",
	"offline":    "The printer does not answer",
}

var troubleNames = []string{"paper_out", "cover_open", "offline"}

type notice struct{ severity, title, message string }

var notices = []notice{
	{"warning", "Card payments", "The card terminals answer slowly. Offer cash."},
	{"info", "Card payments", "The card terminals work as usual again."},
	{"warning", "Weather", "Heavy rain: deliveries take ten minutes longer."},
	{"info", "Tonight", "The match begins at 20:45. Expect a rush at half-time."},
	{"critical", "Allergens", "Batch 1107 of the pesto contains cashew nuts. Do not sell it."},
}
